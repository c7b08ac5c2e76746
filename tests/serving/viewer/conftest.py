"""The viewer in Chromium: fixtures that open it, and what its tests do there again and again."""

import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tests.serving.viewer.site import SIZE_WH, Site, found, serving
from tis_ray.ops import rle

# What Chromium itself says on the console: an answer was an error, there is no network, a test reads pixels.
EXPECTED = re.compile("^Failed to load resource: (the server|net::ERR_INTERNET)|readback operations")
NEXT_FRAME = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def running_site() -> Iterator[Site]:
    site = Site()
    with serving(site):
        yield site


@pytest.fixture
def site(running_site: Site) -> Site:
    """The page's service, as at first."""
    vars(running_site).update(vars(Site(url=running_site.url)))
    return running_site


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no chromium: {error}")
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any, site: Site) -> Iterator[Callable[..., Any]]:
    """Opens the viewer; afterwards nothing may have been said on the console or asked of another host."""
    said: list[str] = []
    contexts = []

    def open_(width: int = 1440, height: int = 900, path: str = "/", **options: Any) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce", accept_downloads=True, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: said.append(message.text) if not EXPECTED.search(message.text) else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        allowed = (site.url, "blob:")
        page.on("request", lambda asked: said.append(asked.url) if not asked.url.startswith(allowed) else None)
        page.goto(site.url + path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []


def picture(name: str = "street.png", size_wh: tuple[int, int] = SIZE_WH, grey: int = 0) -> dict[str, Any]:
    """A grey picture, as Playwright's file inputs take it."""
    stream = io.BytesIO()
    Image.new("RGB", size_wh, (grey, grey, grey)).save(stream, format="PNG")
    return {"name": name, "mimeType": "image/png", "buffer": stream.getvalue()}


def pixels_found() -> np.ndarray:
    """bool (3, height, width): the pixels of their masks, bus, car, person."""
    masks = found().masks
    assert masks is not None
    encoded = rle.from_runs(masks.to_runs(SIZE_WH[1], SIZE_WH[0]))
    return np.stack([coco_mask.decode(one) for one in encoded]).astype(bool)


def segment(page: Any, *files: dict[str, Any]) -> None:
    """Give the page pictures and wait until the first of them is shown with what was found."""
    page.set_input_files("#files", list(files) or [picture()])
    page.wait_for_selector("#save-coco:not([disabled])")


def colour_at(page: Any, x: float, y: float, size_wh: tuple[int, int] = SIZE_WH) -> list[int]:
    """Red, green and blue of the canvas where (x, y) of the whole, fitted picture is shown, after the next frame."""
    return page.evaluate(
        """async ([x, y, width, height]) => {
          await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
          const canvas = document.getElementById("canvas");
          const scale = Math.min(canvas.width / width, canvas.height / height);
          const [left, top] = [(canvas.width - scale * width) / 2, (canvas.height - scale * height) / 2];
          return [...canvas.getContext("2d").getImageData(left + scale * x, top + scale * y, 1, 1).data.slice(0, 3)];
        }""",
        [x, y, *size_wh],
    )


def place_of(page: Any, x: float, y: float, size_wh: tuple[int, int] = SIZE_WH) -> tuple[float, float]:
    """Where (x, y) of the whole, fitted picture is in the window."""
    box = page.locator("#canvas").bounding_box()
    scale = min(box["width"] / size_wh[0], box["height"] / size_wh[1])
    left = box["x"] + (box["width"] - scale * size_wh[0]) / 2
    top = box["y"] + (box["height"] - scale * size_wh[1]) / 2
    return left + scale * x, top + scale * y
