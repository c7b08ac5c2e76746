"""`tis-ray segment`: few images and many, against a server that plays a service and against the running one."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image
from rich.console import Console

from tests.serving.scripted import ANSWER, OK, ROW, Request, Script, Step, playing, problem
from tis_ray.cli import main
from tis_ray.errors import ConfigError, ServiceError
from tis_ray.formats.images import open_image
from tis_ray.serving import retrying, segment
from tis_ray.serving.answer_files import format_of
from tis_ray.serving.client import Client
from tis_ray.serving.picked import pick_images
from tis_ray.serving.segment import GIVE_UP_AFTER, Kept, Summary, segment_files

ENSEMBLE = Step(content={"model_version": ANSWER["model_version"], "categories": [{"id": 3, "name": "car"}]})


def service_of(by: Callable[[Request], Step]) -> Callable[[Request], Step]:
    """A service that answers for images as `by` says."""
    return lambda request: ENSEMBLE if request.path == "/v1/ensemble" else by(request)


def says_its_size(request: Request) -> Step:
    """Finds one car, in an image as wide as its file is long."""
    image = {"width": len(request.body), "height": 4, "sha256": "00"}
    return Step(content=ANSWER | {"image": image, "degraded": request.body == b"degraded"})


def refuses_some(request: Request) -> Step:
    return problem(400, "no image") if request.body == b"broken" else says_its_size(request)


def asked_for(service: Script) -> list[bytes]:
    return [request.body for request in service.requests if request.path == "/v1/segment"]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(retrying, "_MAX_PAUSE_S", 0.001)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A folder of 20 images, whose contents say what becomes of them, in two folders, and a text file."""
    for number in range(20):
        content = b"degraded" if number == 3 else b"broken" if number in (5, 11) else b"x" * (number + 1)
        path = tmp_path / "frames" / f"camera{number % 2}" / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "frames" / "notes.txt").write_text("not an image")
    return tmp_path / "frames"


def run(service: Script, *sources: Path, out: Path | None = None, **options: Any) -> tuple[Summary, str]:
    """What became of the images, and what was printed."""
    console = Console(file=io.StringIO(), width=80)
    kept = None if out is None else Kept(out, format_of(out, options.pop("format", None)), options.pop("resume", False))
    settings = {"token": None, "overlay": None, "score_threshold": 0.25} | options
    picked = pick_images(sources, recursive=True)
    summary = segment_files(picked, url=service.url, kept=kept, console=console, **settings)
    return summary, console.file.getvalue()


# ------------------------------------------------------------------------------------------------ many images


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_every_image_of_a_folder_is_asked_for_and_kept(frames, tmp_path, suffix):
    out = tmp_path / f"answers.{suffix}"
    with playing(by=service_of(refuses_some)) as service:
        summary, _ = run(service, frames, out=out, together=3)
    assert (summary.num_answered, summary.num_degraded, summary.num_before) == (18, 1, 0)
    assert [path for path, _ in summary.failed] == [str(frames / "camera1" / name) for name in ("05.jpg", "11.jpg")]
    assert all("400 no image" in reason for _, reason in summary.failed)
    assert service.most <= 3
    text = out.read_bytes()
    answers = orjson.loads(text) if suffix == "json" else [orjson.loads(line) for line in text.splitlines()]
    assert {answer["file_name"]: answer["image"]["width"] for answer in answers} == {
        str(path): path.stat().st_size for path in frames.rglob("*.jpg") if path.read_bytes() != b"broken"
    }
    assert {query.query["score_threshold"] for query in service.requests if query.body} == {"0.25"}


def test_what_failed_is_tried_again_and_what_was_answered_is_not(frames, tmp_path):
    out = tmp_path / "answers.json"
    with playing(by=service_of(refuses_some)) as service:
        run(service, frames, out=out)
        with pytest.raises(ConfigError, match=r"answers\.json\.partial holds the answers of 18 images already"):
            run(service, frames, out=out)
    with playing(by=service_of(says_its_size)) as service:
        summary, _ = run(service, frames, out=out, resume=True)
        assert asked_for(service) == [b"broken", b"broken"]
    assert (summary.num_answered, summary.num_before, summary.failed) == (2, 18, [])
    answers = orjson.loads(out.read_bytes())
    assert [answer["file_name"] for answer in answers] == sorted(str(path) for path in frames.rglob("*.jpg"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.json", "frames"]


def test_new_images_join_the_lines_of_a_run_that_ended(frames, tmp_path):
    out = tmp_path / "answers.jsonl"
    with playing(by=service_of(says_its_size)) as service:
        run(service, frames / "camera0", out=out)
        summary, _ = run(service, frames, out=out, resume=True)
        assert (summary.num_answered, summary.num_before) == (10, 10)
        assert len(asked_for(service)) == 20
        run(service, frames, out=out, resume=True)
        assert len(asked_for(service)) == 20
    assert len(out.read_bytes().splitlines()) == 20


def test_coco_results_can_be_scored_by_their_own_list_of_images(frames, tmp_path):
    out = tmp_path / "results.json"
    with playing(by=service_of(says_its_size)) as service:
        run(service, frames, out=out, format="coco")
    listed = orjson.loads((tmp_path / "results.images.json").read_bytes())
    assert listed["categories"] == [{"id": 3, "name": "car"}]
    assert [image["width"] for image in listed["images"]] == [
        path.stat().st_size for path in sorted(frames.rglob("*.jpg"))
    ]
    rows = orjson.loads(out.read_bytes())
    assert [row["image_id"] for row in rows] == list(range(1, 21))
    assert {key: rows[0][key] for key in ("category_id", "bbox", "score")} == {
        "category_id": 3,
        "bbox": ROW["bbox"],
        "score": 0.5,
    }


def test_an_unfinished_run_is_not_gone_on_with_without_its_images(frames, tmp_path):
    out = tmp_path / "answers.json"
    with playing(by=service_of(refuses_some)) as service:
        run(service, frames, out=out)
        with pytest.raises(ConfigError, match=r"images: expected all of the unfinished run in .*; .*01\.jpg is not"):
            run(service, frames / "camera0", out=out, resume=True)


def test_a_service_that_is_gone_ends_the_run_and_loses_nothing(frames, tmp_path, monkeypatch):
    monkeypatch.setattr(segment, "RETRIES", 2)
    out = tmp_path / "answers.json"
    answered = []

    def by(request: Request) -> Step:
        if len(answered) == 6:
            return problem(503, "the service is shutting down")
        answered.append(request)
        return OK

    with playing(by=service_of(by)) as service:
        with pytest.raises(ServiceError, match=rf"gave up after {GIVE_UP_AFTER} images in a row, .*: .* 503"):
            run(service, frames, out=out, together=1)
        assert len(out.with_name("answers.json.partial").read_bytes().splitlines()) == 6
    with playing(by=service_of(says_its_size)) as service:
        run(service, frames, out=out, resume=True)
        assert len(asked_for(service)) == 14
    assert len(orjson.loads(out.read_bytes())) == 20


def test_images_that_are_wrong_themselves_end_no_run(frames):
    with playing(by=service_of(lambda _: problem(400, "no image"))) as service:
        summary, _ = run(service, frames)
    assert len(summary.failed) == 20


def test_nothing_is_asked_where_there_is_no_such_service(frames, tmp_path):
    out = tmp_path / "answers.jsonl"
    with playing(problem(401, "this service needs a token")) as service:
        with pytest.raises(ServiceError, match=r"401 this service needs a token; .*TIS_RAY_TOKEN"):
            run(service, frames, out=out)
        assert asked_for(service) == []
    assert not out.exists()


def test_answers_overwrite_no_image(frames):
    with playing(by=service_of(says_its_size)) as service, pytest.raises(ConfigError, match="--out: expected another"):
        run(service, frames, out=frames / "camera0" / "00.jpg", format="jsonl")
    assert (frames / "camera0" / "00.jpg").read_bytes() == b"x"


def test_ctrl_c_keeps_what_was_answered(frames, tmp_path):
    out = tmp_path / "answers.jsonl"
    # What is started in the background may have been told to ignore Ctrl-C.
    heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    run_command = f"{heeding}; from tis_ray.cli import main; main()"
    command = [sys.executable, "-c", run_command, "segment", str(frames), "--recursive"]
    slow = (b"x" * 13, b"x" * 14, b"x" * 15, b"x" * 16)

    def by(request: Request) -> Step:
        return Step(after_s=60) if request.body in slow else says_its_size(request)

    with playing(by=service_of(by)) as service:
        process = subprocess.Popen(
            [*command, "--url", service.url, "--out", str(out), "--together", "5"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        try:
            _wait(lambda: out.exists() and len(out.read_bytes().splitlines()) == 16)
            process.send_signal(signal.SIGINT)
            told, _ = process.communicate(timeout=30)
        finally:
            process.kill()
            process.communicate()
        assert service.hung_up.wait(5)
    assert process.returncode == 130
    assert f"the answers of 16 images are in {out}; --resume goes on with them" in told
    with playing(by=service_of(says_its_size)) as service:
        summary, _ = run(service, frames, out=out, resume=True, score_threshold=0.3)
    assert (summary.num_before, summary.num_answered) == (16, 4)


def _wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not until():
        assert time.monotonic() < end
        time.sleep(0.05)


# ------------------------------------------------------------------------------------------------ the command


def command(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code and what `tis-ray segment` says on stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["tis-ray", "segment", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    told = capsys.readouterr()
    return exit_.value.code, told.out, told.err


def test_the_command_tells_what_became_of_the_images(frames, tmp_path, monkeypatch, capsys):
    out = tmp_path / "answers.jsonl"
    with playing(by=service_of(refuses_some)) as service:
        code, told, complaints = command(
            monkeypatch, capsys, str(frames), "--recursive", "--url", service.url, "--out", str(out)
        )
    assert code == 1
    answers, summary = told.splitlines()
    assert answers == f"answers: {out}"
    assert summary.startswith("18 images in ")
    assert summary.endswith(" images/s; 2 failed; 1 degraded (answered without some views); 1 other files skipped")
    failures = [line for line in complaints.splitlines() if line.startswith("failed: ")]
    named = sorted(line.split(": ")[1] for line in failures)  # told as they come
    assert named == [str(frames / "camera1" / f"{n}.jpg") for n in ("05", "11")]


def test_all_well_is_exit_code_0(frames, monkeypatch, capsys):
    with playing(by=service_of(says_its_size)) as service:
        assert command(monkeypatch, capsys, str(frames / "camera0"), "--url", service.url)[0] == 0


# ------------------------------------------------------------------------------------------------ the running service


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.png", tmp_path / "b[1].png"]
    for seed, path in enumerate(paths):
        pixels = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


@pytest.mark.ray
def test_answers_and_overlays_of_several_images(service, pictures, tmp_path):
    out, overlay = tmp_path / "answers.json", tmp_path / "overlays"
    summary, printed = run(service, *pictures, out=out, overlay=overlay, score_threshold=0.0)
    assert (summary.num_answered, summary.failed) == (2, [])
    answers = orjson.loads(out.read_bytes())
    assert [answer["file_name"] for answer in answers] == [str(path) for path in pictures]
    with Client(service.url) as client:
        expected = [row.score for row in client.segment(pictures[0]).instances]
    assert [row["score"] for row in answers[0]["instances"]] == expected
    for path in pictures:
        drawn, plain = open_image(overlay / path.name), open_image(path)
        assert drawn.shape[1] == plain.shape[1]  # below the picture there may be a legend
        assert np.any(drawn[: len(plain)] != plain)
    assert f"overlay: {overlay / 'b[1].png'}\n" in printed


@pytest.mark.ray
def test_one_image_is_drawn_to_the_file_that_is_named(service, pictures, tmp_path):
    run(service, pictures[0], overlay=tmp_path / "found.jpg")
    assert (tmp_path / "found.jpg").read_bytes().startswith(b"\xff\xd8\xff")


@pytest.mark.ray
def test_a_failed_image_is_named_and_the_others_are_written(service, pictures, tmp_path):
    broken, out = tmp_path / "broken.png", tmp_path / "answers.json"
    broken.write_bytes(b"no picture")
    summary, _ = run(service, pictures[0], broken, pictures[1], out=out)
    assert [path for path, _ in summary.failed] == [str(broken)]
    assert "400" in summary.failed[0][1]
    assert [answer["file_name"] for answer in orjson.loads(out.read_bytes())] == [str(path) for path in pictures]


@pytest.mark.ray
def test_without_an_answer_an_old_file_stays(service, tmp_path):
    out, broken = tmp_path / "answers.json", tmp_path / "broken.png"
    out.write_text("old")
    broken.write_bytes(b"no picture")
    summary, _ = run(service, broken, out=out)
    assert len(summary.failed) == 1
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.json", "broken.png"]
