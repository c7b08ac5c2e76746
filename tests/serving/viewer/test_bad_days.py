"""What the page says and does when the service refuses, waits, asks for a token or is gone."""

from tests.serving.viewer.conftest import picture, segment
from tis_ray.serving.messages import OverloadError


def test_a_token_is_asked_for_tried_and_kept_nowhere(open_page, site):
    site.tokens = ("right",)
    page = open_page()
    page.wait_for_selector("#door:not([hidden])")
    page.set_input_files("#files", [picture()])
    for token in ("wrong", "right"):
        page.fill("#token", token)
        page.keyboard.press("Enter")
        if token == "wrong":
            page.wait_for_selector("text=That token was not accepted")
    page.wait_for_selector("#save-coco:not([disabled])")
    assert page.locator("#door").is_hidden()
    assert page.locator("#about").inner_text() == "4 views, 3 classes, model 0123456789ab"
    kept = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    assert "right" not in page.evaluate(kept)
    page.reload()
    page.wait_for_selector("#door:not([hidden])")


def test_after_a_503_it_says_when_it_tries_again_and_does(open_page, site):
    site.failures = [OverloadError("full")]
    page = open_page()
    page.set_input_files("#files", [picture()])
    page.wait_for_selector("#work:has-text('Too many requests are waiting already.'):has-text('next try in 1 s')")
    page.wait_for_selector("#save-coco:not([disabled])")
    assert site.asked == 2
    assert page.locator("#work").is_hidden()


def test_a_request_is_cancelled_and_asked_again(open_page, site):
    site.seconds = 20
    page = open_page()
    page.set_input_files("#files", [picture("slow.png")])
    page.wait_for_selector("#work:has-text('Segmenting slow.png')")
    with page.expect_event("requestfailed"):
        page.get_by_role("button", name="Cancel").click()
    assert page.locator("#work-words").inner_text() == "Cancelled."
    site.seconds = 0
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("#save-coco:not([disabled])")


def test_what_is_no_image_is_refused_in_the_services_words_and_the_others_go_on(open_page, site):
    page = open_page()
    broken = picture("broken.png") | {"buffer": b"\x89PNG no"}
    page.set_input_files("#files", [broken, picture("good.png")])
    page.wait_for_selector("#work[data-state=failed]")
    assert page.locator("#work-words").inner_text().startswith("The image cannot be used: ")
    page.wait_for_selector("#strip [data-state=done]")
    page.get_by_role("button", name="good.png, 3 found").click()
    page.wait_for_selector("#save-png:not([disabled])")
    assert page.locator("#work").is_hidden()


def test_a_picture_that_is_too_large_is_not_sent(open_page, site):
    page = open_page()
    page.wait_for_selector("#about:has-text('views')")
    sent = []
    page.on("request", lambda request: sent.append(request.url))
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(70_000_000)], "huge.png", { type: "image/png" }));
          dispatchEvent(new DragEvent("drop", { cancelable: true, dataTransfer: data }));
        }"""
    )
    page.wait_for_selector("#work:has-text('huge.png has 66.8 MiB; this service takes at most 64.0 MiB.')")
    assert (sent, site.asked) == ([], 0)


def test_a_service_that_is_gone_is_named_as_such(open_page):
    page = open_page()
    segment(page)
    page.context.set_offline(True)
    page.get_by_role("tab", name="Views and time").click()
    page.get_by_role("button", name="Segment again").click()
    page.wait_for_selector("#work:has-text('The service cannot be reached.')")
