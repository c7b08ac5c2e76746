"""Keys alone, a screen reader's words, contrast in both themes, and a phone's width."""

import re

import pytest

from tests.serving.viewer.conftest import NEXT_FRAME, picture, segment

USABLE = ["button", "checkbox", "slider", "spinbutton", "combobox", "tab", "textbox", "link", "listbox", "group"]
CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = colour.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const colour = rgb(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.matches(":disabled")) continue;
    if (element.closest("#tip, #selected")) continue;
    const [a, b] = [rgb(getComputedStyle(element).color).slice(0, 3), behind(element)].map(light);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push([element.id || element.className || element.tagName, element.textContent.trim(), ratio]);
  }
  return low;
}"""


def test_everything_can_be_done_by_keys(open_page):
    page = open_page()
    segment(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the picture"
    page.keyboard.press("Enter")
    page.focus("#canvas")

    def zoom() -> str:
        page.evaluate(NEXT_FRAME)
        return page.locator("#zoom").inner_text()

    fitted = zoom()
    page.keyboard.press("n")
    assert page.locator("#said").inner_text().startswith("bus, score 0.90")
    page.keyboard.press("n")
    assert page.locator("#said").inner_text().startswith("car, score 0.60")
    page.keyboard.press("p")
    assert page.locator("#said").inner_text().startswith("bus")
    page.keyboard.press("0")
    assert zoom() == fitted
    page.keyboard.press("+")
    assert zoom() != fitted
    page.keyboard.press("-")
    assert zoom() == fitted
    page.keyboard.press("Enter")
    assert zoom() != fitted
    page.keyboard.press("Escape")
    assert page.locator("#selected").is_hidden()
    for key, box in (("m", "#masks"), ("b", "#boxes"), ("l", "#labels")):
        before = page.is_checked(box)
        page.keyboard.press(key)
        assert page.is_checked(box) != before
    page.focus("#list")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator("[role=option][aria-selected=true]").inner_text().startswith("car")
    page.focus("#tab-instances")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-views"
    assert page.locator("#tab-panel-views").is_visible()


def test_letters_that_are_typed_elsewhere_are_no_commands(open_page):
    page = open_page()
    segment(page)
    page.focus("#size-from")
    page.keyboard.press("n")
    page.focus("#order")
    page.keyboard.press("p")
    assert page.locator("#selected").is_hidden()


def test_whatever_can_be_used_has_a_name(open_page):
    page = open_page()
    segment(page, picture("a.png"), picture("b.png"))
    for tab in ("Instances", "Views and time", "Keys"):
        page.get_by_role("tab", name=tab).click()
        tree = page.locator("body").aria_snapshot()
        assert re.findall(rf"- (?:{'|'.join(USABLE)})(?::|\n|$)", tree) == []
    assert page.get_by_role("main").count() == page.get_by_role("banner").count() == 1
    assert page.get_by_role("complementary", name="What was found").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(open_page, scheme):
    page = open_page(color_scheme=scheme)
    segment(page, picture("a.png"), picture("b.png"))
    page.locator("#list .row").first.click()
    for tab in ("Views and time", "Keys", "Instances"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_reference_can_be_read(open_page, scheme):
    page = open_page(390, 844, path="/docs", color_scheme=scheme)
    page.wait_for_selector("h2:has-text('/v1/segment')")
    assert page.locator("td", has_text="score_threshold").count()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(CONTRAST) == []


def test_a_phone_shows_all_of_it_without_scrolling_sideways(open_page):
    page = open_page(390, 844, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    segment(page, picture("a.png"), picture("b.png"))
    for tab in ("Instances", "Views and time", "Keys"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#canvas").bounding_box()["height"] > 300
    page.get_by_role("tab", name="Instances").click()
    page.evaluate("scrollTo(0, 1e6)")
    assert page.locator("#canvas").bounding_box()["y"] == 0, "the picture stays while the list is scrolled"
    page.locator("#list .row", has_text="car").tap()
    assert page.locator("#selected").inner_text().startswith("car")
