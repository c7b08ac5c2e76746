"""The page in Chromium, from a picture to what is drawn, listed, filtered and saved."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from tests.serving.viewer.conftest import NEXT_FRAME, colour_at, picture, pixels_found, place_of, segment
from tests.serving.viewer.site import BOXES, SIZE_WH, found
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
BUS, CAR, PERSON = ((box[0] + box[2]) / 2 + (box[1] + box[3]) / 2 * 1j for box in BOXES.tolist())  # their middles
BLACK = [0, 0, 0]


def at(middle: complex) -> tuple[float, float]:
    return middle.real, middle.imag


def names(page) -> list[str]:
    """What the list says, top to bottom."""
    return [row.split("\n")[0].split("0.")[0].strip() for row in page.locator("#list .row").all_inner_texts()]


def zoom(page) -> int:
    """Percent, after the next frame."""
    page.evaluate(NEXT_FRAME)
    return int(page.locator("#zoom").inner_text().removesuffix(" %"))


def test_masks_are_drawn_over_what_was_found_and_go_with_the_switch(open_page):
    page = open_page()
    segment(page)
    assert page.locator("#status").inner_text().startswith("street.png, 400 \u00d7 300 px: 3 of 3 instances shown")
    assert colour_at(page, 5, 5) == BLACK
    assert all(max(colour_at(page, *at(middle))) > 40 for middle in (BUS, CAR, PERSON))
    page.uncheck("#masks")
    assert [colour_at(page, *at(middle)) for middle in (BUS, CAR)] == [BLACK, BLACK]
    page.check("#masks")
    page.fill("#opacity", "1")
    assert max(colour_at(page, *at(BUS))) > 150


def test_score_size_and_class_say_what_is_shown(open_page):
    page = open_page()
    segment(page)
    assert names(page) == ["bus", "car", "person"]
    page.fill("#score", "0.5")
    assert names(page) == ["bus", "car"]
    assert colour_at(page, *at(PERSON)) == BLACK
    page.fill("#score", "0.3")
    page.fill("#size-to", "40")
    assert names(page) == ["car", "person"]
    assert page.locator("#count").inner_text() == "2 of 3"
    page.fill("#size-to", "")
    page.get_by_role("checkbox", name="bus").uncheck()
    assert names(page) == ["car", "person"]
    assert colour_at(page, *at(BUS)) == BLACK
    page.get_by_role("button", name="Show no class").click()
    assert names(page) == []
    page.get_by_role("button", name="Show all classes").click()
    page.select_option("#order", "small")
    assert names(page) == ["person", "car", "bus"]


def test_pointing_names_an_instance_and_a_click_selects_it(open_page):
    page = open_page()
    segment(page)
    page.mouse.move(*place_of(page, *at(CAR)))
    assert page.locator("#tip").inner_text() == "car 0.60 · 28 px (40 \u00d7 20)"
    page.mouse.click(*place_of(page, *at(CAR)))
    assert page.locator("[role=option][aria-selected=true]").inner_text().startswith("car")
    assert page.locator("#selected").inner_text().startswith("car, score 0.60, 28 px (40 \u00d7 20) · at 200, 100")
    x, y = at(PERSON)
    page.mouse.click(*place_of(page, x + 4, y))  # two px beside it
    assert page.locator("#selected").inner_text().startswith("person")
    page.mouse.click(*place_of(page, 390, 10))
    assert page.locator("#selected").is_hidden()


def test_a_tiny_instance_of_the_list_is_brought_to_the_middle(open_page):
    page = open_page()
    segment(page)
    before = zoom(page)
    page.locator("#list .row", has_text="person").click()
    assert zoom(page) > 5 * before
    page.fill("#opacity", "1")
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.locator("#tip").inner_text().startswith("person")
    assert page.locator("#overview").is_visible()
    page.get_by_role("button", name="Fit").click()
    assert zoom(page) == before
    assert page.locator("#overview").is_hidden()


def test_the_wheel_zooms_to_the_pointer_and_a_drag_moves_the_picture(open_page):
    page = open_page()
    segment(page)
    place = place_of(page, *at(PERSON))
    page.mouse.move(*place)
    for _ in range(10):
        page.mouse.wheel(0, -200)
    assert zoom(page) > 2000
    assert page.locator("#tip").inner_text().startswith("person"), "it is still under the pointer"
    page.mouse.down()
    page.mouse.move(place[0] + 300, place[1], steps=3)
    page.mouse.up()
    page.mouse.move(place[0] + 1, place[1])
    assert page.locator("#tip").is_hidden()
    page.mouse.move(place[0] + 301, place[1])
    assert page.locator("#tip").inner_text().startswith("person"), "it went with the drag"
    assert page.locator("#selected").is_hidden(), "a drag is no click"


def test_pixels_stay_sharp_when_they_are_large(open_page):
    page = open_page()
    stripes = np.zeros((*SIZE_WH[::-1], 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    file = picture()
    file["buffer"] = png(stripes)
    segment(page, file)
    page.focus("#canvas")
    page.keyboard.press("1")
    for _ in range(9):
        page.keyboard.press("+")
    values = page.evaluate(
        """async () => {
          await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
          const canvas = document.getElementById("canvas");
          const row = canvas.getContext("2d").getImageData(0, 5, canvas.width, 1).data;
          return [...row].filter((_, i) => i % 4 === 0);
        }"""
    )
    assert set(values) == {0, 255}
    assert 20 < len(values) / np.count_nonzero(np.diff(values)) < 50, "px of the screen to one of the picture"


def png(pixels: np.ndarray) -> bytes:
    import io

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def test_each_views_own_boxes_can_be_seen(open_page, site):
    page = open_page()
    segment(page)
    page.get_by_role("tab", name="Views and time").click()
    rows = page.locator("#views tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["a@64", "a@64", "a@96", "a@96"]
    edge = 40.0, 100.0  # on the left edge of the bus
    before = [colour_at(page, edge[0], edge[1] + step) for step in range(8)]
    view = page.get_by_role("button", name="a@64 flipped")
    view.click()
    assert view.get_attribute("aria-pressed") == "true"
    assert [colour_at(page, edge[0], edge[1] + step) for step in range(8)] != before
    view.click()
    assert [colour_at(page, edge[0], edge[1] + step) for step in range(8)] == before
    stages = dict(row.split("\t")[:2] for row in page.locator("#stages tr").all_inner_texts())
    assert stages["Views"].strip() == "400 ms"
    assert stages["Masks of the fused boxes"].strip() == "\u2013"
    page.mouse.click(*place_of(page, *at(CAR)))
    assert "2 of 4 views found it" in page.locator("#selected").inner_text()
    page.uncheck("#explain")
    page.get_by_role("button", name="Segment again").click()
    page.wait_for_selector("#views button:disabled")
    assert site.asked == 2


def test_a_degraded_answer_says_what_is_missing(open_page, site):
    site.missing = True
    page = open_page()
    segment(page)
    assert "Degraded: 1 of 4 views are missing" in page.locator("#status").inner_text()
    page.get_by_role("tab", name="Views and time").click()
    assert page.locator("#views tr").nth(1).locator(".bad").inner_text() == "timeout"


def saved(page, button: str, path):
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    download.value.save_as(path)
    return download.value.suggested_filename


def test_the_saved_json_is_a_coco_data_set_and_its_annotations_are_results(open_page, tmp_path):
    page = open_page()
    segment(page, picture("a.png"), picture("b.png"))
    page.wait_for_selector("#strip li:nth-child(2) [data-state=done]")
    page.get_by_role("checkbox", name="person").uncheck()
    path = tmp_path / "instances.json"
    assert saved(page, "Save COCO", path) == "instances.json"
    content = json.loads(path.read_text())
    coco = COCO(path)
    assert [(image["id"], image["file_name"]) for image in coco.loadImgs([1, 2])] == [(1, "a.png"), (2, "b.png")]
    assert [category["name"] for category in content["categories"]] == ["car", "person", "bus"]
    results = coco.loadRes(content["annotations"])
    assert len(results.anns) == 4
    for image_id in (1, 2):
        anns = results.loadAnns(results.getAnnIds(image_id))
        assert [(ann["category_id"], round(ann["score"], 3)) for ann in anns] == [(9, 0.9), (3, 0.6)]
        for ann, box, pixels in zip(anns, BOXES, pixels_found(), strict=False):
            assert ann["bbox"] == [*box[:2], *(box[2:] - box[:2])]
            np.testing.assert_array_equal(results.annToMask(ann), pixels)
        own = coco.loadAnns(coco.getAnnIds(image_id))
        assert [ann["area"] for ann in own] == pixels_found()[:2].sum(axis=(1, 2)).tolist()


def test_the_saved_picture_has_its_own_size_and_the_masks(open_page, tmp_path):
    page = open_page()
    segment(page)
    page.fill("#opacity", "1")
    assert saved(page, "Save PNG", tmp_path / "a.png") == "street-instances.png"
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB")).max(axis=2)
    truth = pixels_found().any(axis=0)
    assert pixels.shape == SIZE_WH[::-1]
    assert pixels[truth].min() > 150
    assert (pixels[~truth] > 0).mean() < 0.01, "outlines alone"


def test_a_thousand_instances_are_listed_without_a_thousand_rows(open_page, site):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 280, (1000, 2))
    boxes = np.hstack([corners, corners + rng.uniform(3, 20, (1000, 2))]).astype(np.float32)
    scores = np.linspace(1, 0, 1000)
    masks = BoxMasks(boxes, np.ones((1000, 14, 14), dtype=np.float16))
    site.answer = lambda: Instances.of(boxes, scores, rng.integers(0, 3, 1000), masks)
    page = open_page()
    segment(page)
    page.fill("#score", "0")
    assert page.locator("#count").inner_text() == "1000 of 1000"
    assert page.locator("#list .row").count() < 60
    page.focus("#list")
    page.keyboard.press("End")
    assert page.locator("#list .row").last.get_attribute("aria-posinset") == "1000"
    assert page.locator("#list").get_attribute("aria-activedescendant") == "row-999"
    assert page.locator("#row-999").get_attribute("aria-selected") == "true"


def test_an_empty_answer_is_no_error(open_page, site):
    site.answer = lambda: found()[:0]
    page = open_page()
    segment(page)
    assert "0 of 0 instances shown" in page.locator("#status").inner_text()
    page.focus("#canvas")
    page.keyboard.press("n")
    assert page.locator("#selected").is_hidden()


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_pictures_can_be_dropped_and_pasted(open_page, way):
    page = open_page()
    page.evaluate(
        """async (way) => {
          const canvas = new OffscreenCanvas(400, 300);
          canvas.getContext("2d").fillRect(0, 0, 400, 300);
          const data = new DataTransfer();
          data.items.add(new File([await canvas.convertToBlob()], "given.png", { type: "image/png" }));
          data.items.add(new File(["words"], "notes.txt", { type: "text/plain" }));
          const init = { bubbles: true, cancelable: true };
          dispatchEvent(way === "drop" ? new DragEvent("drop", { ...init, dataTransfer: data })
            : new ClipboardEvent("paste", { ...init, clipboardData: data }));
        }""",
        way,
    )
    page.wait_for_selector("#save-coco:not([disabled])")
    assert page.locator("#status").inner_text().startswith("given.png, 400 \u00d7 300 px: 3 of 3")
