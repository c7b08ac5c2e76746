"""`tis-ray segment` against the running service: answers kept, overlays drawn, failures named at the end."""

import io
from pathlib import Path

import numpy as np
import orjson
import pytest
from PIL import Image
from rich.console import Console

from tis_ray.errors import ConfigError, ServiceError
from tis_ray.formats.images import open_image
from tis_ray.serving.client import Client
from tis_ray.serving.segment import segment_files

pytestmark = pytest.mark.ray


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.png", tmp_path / "b[1].png"]
    for seed, path in enumerate(paths):
        pixels = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def segment(service, images: list[Path], **options) -> str:
    """What is printed."""
    console = Console(file=io.StringIO(), width=80)
    settings = {"token": None, "out": None, "overlay": None, "score_threshold": 0.0} | options
    segment_files(images, url=service.url, console=console, **settings)
    return console.file.getvalue()


def test_answers_and_overlays_of_several_images(service, pictures, tmp_path):
    out, overlay = tmp_path / "made" / "answers.json", tmp_path / "overlays"
    printed = segment(service, pictures, out=out, overlay=overlay)
    answers = orjson.loads(out.read_bytes())
    assert [answer["file_name"] for answer in answers] == [str(path) for path in pictures]
    with Client(service.url) as client:
        expected = [row.score for row in client.segment(pictures[0]).instances]
    assert [row["score"] for row in answers[0]["instances"]] == expected
    for path in pictures:
        drawn, plain = open_image(overlay / path.name), open_image(path)
        assert drawn.shape[1] == plain.shape[1]  # below the picture there may be a legend
        assert np.any(drawn[: len(plain)] != plain)
    assert f"answers: {out}\n" in printed
    assert f"overlay: {overlay / 'b[1].png'}\n" in printed


def test_one_image_is_drawn_to_the_file_that_is_named(service, pictures, tmp_path):
    segment(service, pictures[:1], overlay=tmp_path / "found.jpg")
    assert (tmp_path / "found.jpg").read_bytes().startswith(b"\xff\xd8\xff")


def test_a_failed_image_is_named_at_the_end_and_the_others_are_written(service, pictures, tmp_path):
    broken, out = tmp_path / "broken.png", tmp_path / "answers.json"
    broken.write_bytes(b"no picture")
    with pytest.raises(ServiceError, match=r"^1 of 3 images failed: .*broken\.png: .*400"):
        segment(service, [pictures[0], broken, pictures[1]], out=out)
    assert [answer["file_name"] for answer in orjson.loads(out.read_bytes())] == [str(path) for path in pictures]


def test_without_an_answer_an_old_file_stays(service, tmp_path):
    out = tmp_path / "answers.json"
    out.write_text("old")
    with pytest.raises(ServiceError, match="1 of 1 images failed"):
        segment(service, [tmp_path / "nowhere.png"], out=out)
    assert out.read_text() == "old"


def test_overlays_never_overwrite_each_other(service, tmp_path):
    images = [tmp_path / "x" / "a.png", tmp_path / "y" / "a.jpg"]
    with pytest.raises(ConfigError, match=r"--overlay: expected images of different names; got .*a\.png, .*a\.jpg"):
        segment(service, images, overlay=tmp_path / "overlays")
    with pytest.raises(ConfigError, match="--overlay: expected a folder for 2 images"):
        segment(service, images, overlay=tmp_path / "one.png")
