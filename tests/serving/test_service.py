"""The service over real HTTP: the answer and its fields, agreement with one process, many requests at once."""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

import tis_ray
from tests.serving.replicas import replica_processes
from tis_ray.inference.ensemble import EnsemblePredictor
from tis_ray.instances import Instances
from tis_ray.ops import boxes as box_ops
from tis_ray.serving.client import Client

pytestmark = pytest.mark.ray


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def picture_of(seed: int, height: int = 80, width: int = 112) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def local(service) -> EnsemblePredictor:
    return tis_ray.load(service.ensemble_path, device="cpu")


def check_equal(answer: dict, expected: Instances, local: EnsemblePredictor, hw: tuple[int, int]) -> None:
    rows = answer["instances"]
    assert len(rows) == len(expected) > 0
    assert [row["category_id"] for row in rows] == [local.categories.ids[label] for label in expected.labels]
    assert [row["category"] for row in rows] == [local.categories.names[label] for label in expected.labels]
    np.testing.assert_array_equal(np.array([row["score"] for row in rows], dtype=np.float32), expected.scores)
    bbox = np.array([row["bbox"] for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(bbox, box_ops.xyxy_to_xywh(expected.boxes))
    assert [row["segmentation"] for row in rows] == expected.masks.to_rle(*hw)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_answers_instance_for_instance_like_one_process(http, local, seed):
    pixels = picture_of(seed, 70 + 10 * seed, 100)
    response = http.post("/v1/segment", content=png(pixels), headers={"Content-Type": "image/png"})
    assert response.status_code == 200, response.text
    check_equal(response.json(), local.predict(pixels), local, pixels.shape[:2])


def test_eight_requests_at_once_each_get_their_own_answer(service, local):
    pictures = [picture_of(seed) for seed in range(8)]

    def ask(pixels: np.ndarray) -> dict:
        response = httpx.post(
            f"{service.url}/v1/segment", content=png(pixels), headers={"Content-Type": "image/png"}, timeout=60
        )
        assert response.status_code == 200, response.text
        return response.json()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, pictures))
    for pixels, answer in zip(pictures, answers, strict=True):
        check_equal(answer, local.predict(pixels), local, pixels.shape[:2])


def test_the_answer_has_exactly_the_promised_fields(http):
    content = png(picture_of(0))
    answer = http.post("/v1/segment", content=content, headers={"Content-Type": "image/png"}).json()
    assert set(answer) == {"image", "instances", "views", "degraded", "timings", "model_version"}
    assert answer["image"] == {"width": 112, "height": 80, "sha256": hashlib.sha256(content).hexdigest()}
    fields = {"category_id", "category", "score", "bbox", "segmentation", "area"}
    assert all(set(row) == fields for row in answer["instances"])
    assert answer["degraded"] is False
    assert len(answer["model_version"]) == 12
    assert [(view["member"], view["scale"], view["flip"]) for view in answer["views"]] == [
        ("one", 64, False),
        ("one", 64, True),
        ("one", 96, False),
        ("one", 96, True),
        ("two", 64, False),
    ]
    for view in answer["views"]:
        assert set(view) == {"member", "scale", "flip", "crop", "crop_name", "tile", "status", "seconds", "instances"}
        assert (view["crop"], view["status"]) == (None, "ok")
        assert view["seconds"] > 0
        assert 0 < view["instances"] <= 10
    timings = answer["timings"]
    assert set(timings) == {"decode_s", "views_s", "masks_s", "fusion_s", "encode_s", "total_s"}
    assert timings["total_s"] >= timings["decode_s"] + timings["views_s"] + timings["fusion_s"] > 0


def test_area_counts_the_pixels_of_the_mask(http):
    from pycocotools import mask as coco_mask

    answer = http.post("/v1/segment", content=png(picture_of(0)), headers={"Content-Type": "image/png"}).json()
    for row in answer["instances"]:
        assert row["area"] == coco_mask.area(row["segmentation"])


def test_multipart_gives_the_same_instances(http):
    content = png(picture_of(3))
    plain = http.post("/v1/segment", content=content, headers={"Content-Type": "image/png"}).json()
    form = http.post("/v1/segment", files={"image": ("street.png", content, "image/png")}).json()
    assert form["instances"] == plain["instances"]
    assert form["image"] == plain["image"]


def test_explain_adds_what_each_view_found(http, local):
    pixels = picture_of(4)
    answer = http.post(
        "/v1/segment", params={"explain": "true"}, content=png(pixels), headers={"Content-Type": "image/png"}
    ).json()
    expected = local.predict_views(pixels)
    for outcome, view in zip(answer["views"], local.views, strict=True):
        own = expected[view]
        assert outcome["instances"] == len(outcome["detections"]) == len(own)
        scores = np.array([row["score"] for row in outcome["detections"]], dtype=np.float32)
        np.testing.assert_array_equal(scores, own.scores)
        assert set(outcome["detections"][0]) == {"category_id", "category", "score", "bbox"}


def test_threshold_and_count_keep_the_best(http):
    def ask(**query: object) -> list[dict]:
        content = png(picture_of(5))
        return http.post("/v1/segment", params=query, content=content, headers={"Content-Type": "image/png"}).json()[
            "instances"
        ]

    everything = ask()
    assert ask(max_instances=3) == everything[:3]
    threshold = everything[4]["score"]
    assert ask(score_threshold=threshold) == [row for row in everything if row["score"] >= threshold]


def test_polygons_enclose_the_same_pixels_as_the_rle(http):
    from pycocotools import mask as coco_mask

    content, headers = png(picture_of(6)), {"Content-Type": "image/png"}
    rles = http.post("/v1/segment", content=content, headers=headers).json()["instances"]
    rings = http.post("/v1/segment?masks=polygon", content=content, headers=headers).json()["instances"]
    none = http.post("/v1/segment?masks=none", content=content, headers=headers).json()["instances"]
    assert [row["segmentation"] for row in none] == [None] * len(rles)
    for with_rle, with_polygon in zip(rles, rings, strict=True):
        assert with_polygon["area"] == with_rle["area"]
        if with_polygon["segmentation"]:
            merged = coco_mask.merge(coco_mask.frPyObjects(with_polygon["segmentation"], 80, 112))
            assert merged["counts"].decode() == with_rle["segmentation"]["counts"]
        else:
            assert with_rle["area"] == 0


def test_describes_the_ensemble(http, service):
    answer = http.get("/v1/ensemble").json()
    assert answer["deployments"] == ["one@64", "one@96", "two@64"]
    assert len(answer["views"]) == 5
    assert answer["categories"][0] == {"id": 33, "name": "car", "supercategory": "vehicle"}
    assert answer["fusion"]["rules"] == [{"nms": {"iou_threshold": 0.6}}, "soft_nms"]
    assert answer["limits"]["max_pixels"] == service.ensemble.limits.max_pixels


def test_is_ready_and_alive(http):
    assert http.get("/readyz").json()["ready"] is True
    assert http.get("/healthz").json() == {"status": "alive"}


def test_pages_come_without_anything_from_elsewhere(http):
    for path in ("/", "/docs"):
        page = http.get(path)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert "://" not in page.text.replace("http://www.w3.org", "")
    assert "/v1/segment" in http.get("/openapi.json").json()["paths"]


def test_the_client_speaks_for_the_service(service, local, tmp_path):
    pixels = picture_of(7)
    path = tmp_path / "street.png"
    path.write_bytes(png(pixels))
    with Client(service.url) as client:
        assert client.ready()
        results = [client.segment(path), client.segment(path.read_bytes()), client.segment(pixels)]
        assert results[0].instances == results[1].instances == results[2].instances
        result = client.segment(pixels, max_instances=2, explain=True, masks=None)
        assert client.ensemble()["model_version"] == result.model_version
    assert (result.width, result.height, len(result.instances)) == (112, 80, 2)
    assert result.views[0].detections
    coco = results[0].to_coco(17)
    assert len(coco) == len(local.predict(pixels))
    assert set(coco[0]) == {"image_id", "category_id", "bbox", "score", "segmentation"}
    assert {row["image_id"] for row in coco} == {17}


def test_light_replicas_hold_no_pytorch(service):
    replicas = replica_processes()
    assert set(replicas) == {"Gateway", "Fusion", "one@64", "one@96", "two@64"}
    for name, folders in replicas.items():
        for folder in folders:
            assert ("libtorch" in (folder / "maps").read_text()) == ("@" in name), name
