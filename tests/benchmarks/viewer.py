"""How fast the service's page draws: 500 masks over a frame of 3384 x 2710 px, in Chromium without a GPU.

    python -m tests.benchmarks.viewer

The figures are written into `docs/viewer.md`.
"""

import io
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.benchmarks import pages
from tests.serving.viewer.site import Site, serving
from tis_ray.instances import Instances
from tis_ray.masks import BoxMasks

PAGE, MARKS = pages.DOCS / "viewer.md", "frames"
SIZE_WH, COUNT, WINDOW = (3384, 2710), 500, {"width": 1440, "height": 900}

# Paints into a canvas of the stage's size and reads a pixel back, which waits until all of it is drawn.
PAINT = """async (scales) => {
  const [{ paint }, { instancesOf }, { Palette }, { Pyramid }, { segment }] = await Promise.all(
    ["drawing", "scene", "palette", "pyramid", "service"].map((name) => import(`/viewer/${name}.js`)));
  const blank = new OffscreenCanvas(3384, 2710);
  blank.getContext("2d").fillRect(0, 0, 3384, 2710);
  const file = await blank.convertToBlob({ type: "image/jpeg" });
  const answer = await segment(file, { token: "", explain: false });
  const timed = (work) => {
    const start = performance.now();
    const made = work();
    return [performance.now() - start, made];
  };
  const [read, instances] = timed(() => instancesOf(answer, new Palette()));
  const [traced] = timed(() => instances.forEach((instance) => instance.path(2)));
  const { clientWidth: width, clientHeight: height } = document.getElementById("canvas");
  const context = new OffscreenCanvas(width, height).getContext("2d");
  const what = { pyramid: await Pyramid.open(file), instances, selected: null, hovered: null, view: null,
    masks: true, boxes: false, labels: false, opacity: 0.4 };
  const frames = scales.map((scale) => {
    const [x, y] = [width / 2 - scale * 1692, height / 2 - scale * 1790];
    const seen = [-x / scale, -y / scale, (width - x) / scale, (height - y) / scale];
    const to = { context, ratio: 1, scale, x, y, seen };
    const once = () => timed(() => { paint(what, to); context.getImageData(0, 0, 1, 1); })[0];
    once();
    return Array.from({ length: 21 }, once).sort((a, b) => a - b)[10];
  });
  return { read, traced, frames, count: instances.length };
}"""

# Intervals between frames while the wheel zooms in and out over the masks.
WHEEL = """async () => {
  const canvas = document.getElementById("canvas");
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const place = { clientX: left + width / 2, clientY: top + 0.65 * height };
  const intervals = [];
  let last = performance.now();
  for (let i = 0; i < 120; i++) {
    canvas.dispatchEvent(new WheelEvent("wheel", { ...place, deltaY: i < 60 ? -50 : 50, cancelable: true }));
    const now = await new Promise((done) => requestAnimationFrame(() => done(performance.now())));
    intervals.push(now - last);
    last = now;
  }
  intervals.sort((a, b) => a - b);
  return [intervals[60], intervals[114]];
}"""


def many() -> Instances:
    """Instances as a street has them: most of them tiny, in a band below the middle, with wavy outlines."""
    rng = np.random.default_rng(0)
    sides = np.clip(rng.lognormal(3.6, 0.9, COUNT), 6, 900)
    stretch = np.exp(rng.normal(0, 0.4, COUNT))
    half = np.stack([sides * stretch, sides / stretch], axis=1) / 2
    centres = np.stack([rng.uniform(0, SIZE_WH[0], COUNT), rng.normal(0.66, 0.06, COUNT) * SIZE_WH[1]], axis=1)
    boxes = np.hstack([centres - half, centres + half]).astype(np.float32)
    y, x = np.mgrid[-1:1:28j, -1:1:28j]
    waves = 0.12 * np.sin(3 * np.arctan2(y, x) + rng.uniform(0, 6.28, (COUNT, 1, 1)))
    patches = 1 / (1 + np.exp(12 * (np.hypot(x, y) - 0.75 - waves)))
    return Instances.of(
        boxes, np.linspace(1, 0.31, COUNT), rng.integers(0, 3, COUNT), BoxMasks(boxes, patches.astype(np.float16))
    )


def jpeg() -> bytes:
    stream = io.BytesIO()
    Image.effect_noise(SIZE_WH, 40).convert("RGB").save(stream, format="JPEG")
    return stream.getvalue()


def measure(page: Page) -> dict[str, Any]:
    page.set_input_files("#files", [{"name": "frame.jpg", "mimeType": "image/jpeg", "buffer": jpeg()}])
    page.wait_for_selector("#save-coco:not([disabled])")
    page.wait_for_timeout(2000)
    return page.evaluate(PAINT, [0.3, 0.6, 1, 2, 8]) | {"wheel": page.evaluate(WHEEL)}


def main() -> None:
    site = Site(answer=many)
    with serving(site), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport=WINDOW)
        page.goto(site.url)
        figures = measure(page)
        version = browser.version
        browser.close()
    zooms = "".join(f" {zoom} |" for zoom in ("30 %", "60 %", "100 %", "200 %", "800 %"))
    frames = "".join(f" {milliseconds:.1f} ms |" for milliseconds in figures["frames"])
    text = (
        f"| {figures['count']} masks over {SIZE_WH[0]} x {SIZE_WH[1]} px at |{zooms}\n|---|{'---|' * 5}\n"
        f"| a frame takes (median of 21) |{frames}\n\n"
        f"Reading the masks of the answer takes {figures['read']:.0f} ms and tracing all of their outlines "
        f"{figures['traced']:.0f} ms, spread over frames. While the wheel zooms, half of the frames come within "
        f"{figures['wheel'][0]:.0f} ms of the one before and 95% within {figures['wheel'][1]:.0f} ms. "
        f"Chromium {version.split('.')[0]}, no GPU, a window of 1440 x 900."
    )
    pages.write(PAGE, MARKS, text)
    print(text)


if __name__ == "__main__":
    main()
