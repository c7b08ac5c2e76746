"""The page in front of a real Serve application: from a picture to a saved file, as the service itself answers."""

import io
import json

import httpx
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from tests.serving.viewer.conftest import colour_at, place_of, segment
from tests.serving.viewer.site import Site

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # pycocotools
]
SIZE_WH = (160, 120)


@pytest.fixture(scope="module", autouse=True)
def running_site(service) -> Site:
    """The real service instead; it starts before the browser does."""
    return Site(url=service.url)


def test_a_picture_is_segmented_looked_at_and_saved(open_page, site, tmp_path):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 60, (120, 160, 3), dtype=np.uint8)).save(stream, format="PNG")
    picture = {"name": "noise.png", "mimeType": "image/png", "buffer": stream.getvalue()}
    answer = httpx.post(
        f"{site.url}/v1/segment", content=stream.getvalue(), headers={"Content-Type": "image/png"}, trust_env=False
    ).json()
    instances = answer["instances"]
    page = open_page()
    segment(page, picture)
    page.fill("#score", "0")
    assert page.locator("#count").inner_text() == f"{len(instances)} of {len(instances)}"
    masks = np.stack([coco_mask.decode(one["segmentation"]) for one in instances]).astype(bool)
    largest = int(masks.sum(axis=(1, 2)).argmax())
    y, x = np.argwhere(masks[largest])[masks[largest].sum() // 2]
    page.fill("#opacity", "1")
    assert max(colour_at(page, x + 0.5, y + 0.5, SIZE_WH)) > 150
    page.mouse.click(*place_of(page, x + 0.5, y + 0.5, SIZE_WH))
    assert page.locator("#selected").inner_text().startswith(tuple({one["category"] for one in instances}))
    page.get_by_role("tab", name="Views and time").click()
    assert page.locator("#views tr").count() == len(answer["views"])
    page.locator("#views button").first.click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save COCO").click()
    download.value.save_as(tmp_path / "instances.json")
    coco = COCO(tmp_path / "instances.json")
    results = coco.loadRes(json.loads((tmp_path / "instances.json").read_text())["annotations"])
    saved = results.loadAnns(results.getAnnIds(1))
    assert [one["score"] for one in saved] == [one["score"] for one in instances]
    np.testing.assert_array_equal(np.stack([results.annToMask(one) for one in saved]), masks)
