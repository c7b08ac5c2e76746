"""The page's masks: its run lengths and outlines against pycocotools and brute force, in Chromium."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

SHAPES = [(1, 1), (7, 5), (33, 64), (64, 33), (120, 90)]


def random_masks() -> list[np.ndarray]:
    """Noise of several densities, smooth blobs with holes, chequers, empty and full ones."""
    rng = np.random.default_rng(0)
    masks = []
    for height, width in SHAPES:
        masks += [rng.random((height, width)) < share for share in (0, 0.03, 0.5, 0.97, 1)]
        y, x = np.mgrid[:height, :width]
        ring = np.hypot(y - height / 2, x - width / 2)
        masks += [(ring < 0.45 * height) & (ring > 0.2 * height), (y + x) % 2 == 0]
    return masks


def encode(mask: np.ndarray) -> dict:
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


@pytest.fixture
def page(open_page):
    return open_page()


def test_run_lengths_give_the_pixels_that_pycocotools_encoded(page):
    masks = random_masks()
    rows = page.evaluate(
        """async (rles) => {
          const { contains, spansOf } = await import("/viewer/rle.js");
          return rles.map((rle) => {
            const [height, width] = rle.size;
            const spans = spansOf(rle);
            const all = [...new Array(height * width).keys()];
            return all.filter((i) => contains(spans, i % width, Math.floor(i / width)));
          });
        }""",
        [encode(mask) for mask in masks],
    )
    for mask, pixels in zip(masks, rows, strict=True):
        np.testing.assert_array_equal(np.flatnonzero(mask), pixels)


def test_a_run_of_a_hundred_megapixels_is_read(page):
    rle = coco_mask.frPyObjects({"size": [10_000, 10_000], "counts": [99_999_998, 1, 1]}, 10_000, 10_000)
    spans = page.evaluate(
        """async (rle) => {
          const { decodeCounts, spansOf } = await import("/viewer/rle.js");
          const { xs, tops, bottoms } = spansOf(rle);
          return [decodeCounts(rle.counts), [...xs], [...tops], [...bottoms]];
        }""",
        {"size": rle["size"], "counts": rle["counts"].decode()},
    )
    assert spans == [[99_999_998, 1, 1], [9999], [9998], [9999]]


def test_outlines_enclose_just_the_pixels_of_the_mask(page):
    masks = random_masks()
    rows = page.evaluate(
        """async (rles) => {
          const { pathOf, trace } = await import("/viewer/contours.js");
          const { spansOf } = await import("/viewer/rle.js");
          return rles.map((rle) => {
            const [height, width] = rle.size;
            const context = new OffscreenCanvas(width, height).getContext("2d");
            context.fill(pathOf(trace(spansOf(rle)), 0));
            return [...context.getImageData(0, 0, width, height).data].filter((_, i) => i % 4 === 3);
          });
        }""",
        [encode(mask) for mask in masks],
    )
    for mask, alpha in zip(masks, rows, strict=True):
        np.testing.assert_array_equal(np.asarray(alpha).reshape(mask.shape), 255 * mask)


def test_corners_that_simpler_outlines_leave_out_are_near_them(page):
    y, x = np.mgrid[:200, :260]
    blob = np.hypot(y - 100, x - 130) < 60 + 25 * np.sin(5 * np.arctan2(y - 100, x - 130))
    full, simple = page.evaluate(
        """async (rle) => {
          const { simplify, trace } = await import("/viewer/contours.js");
          const { spansOf } = await import("/viewer/rle.js");
          const [loop] = trace(spansOf(rle));
          return [loop, simplify(loop, 0.75)];
        }""",
        encode(blob),
    )
    full, simple = (np.asarray(loop, dtype=float).reshape(-1, 2) for loop in (full, simple))
    assert len(simple) < 0.4 * len(full)
    starts, along = simple, np.roll(simple, -1, axis=0) - simple
    steps = ((full[:, None] - starts) * along).sum(axis=2) / (along**2).sum(axis=1)
    nearest = starts + np.clip(steps, 0, 1)[..., None] * along
    assert np.linalg.norm(full[:, None] - nearest, axis=2).min(axis=1).max() <= 0.75 + 1e-9


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_picture_with_an_orientation_is_shown_as_it_is_stored(page, form):
    stream = io.BytesIO()
    turned = Image.Exif()
    turned[0x0112] = 6
    stored = Image.new("RGB", (40, 20))
    stored.paste((255, 255, 255), (0, 0, 20, 20))
    stored.save(stream, format=form, exif=turned, icc_profile=b"0" * 70_000 if form == "JPEG" else None)
    size, left, right = page.evaluate(
        """async ([text, type]) => {
          const { Pyramid } = await import("/viewer/pyramid.js");
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          const pyramid = await Pyramid.open(new Blob([bytes], { type }));
          const context = new OffscreenCanvas(40, 20).getContext("2d");
          pyramid.draw(context, 1);
          const red = (x) => context.getImageData(x, 10, 1, 1).data[0];
          return [[pyramid.width, pyramid.height], red(5), red(35)];
        }""",
        [base64.b64encode(stream.getvalue()).decode(), f"image/{form.lower()}"],
    )
    assert (size, left > 250, right < 5) == ([40, 20], True, True)
