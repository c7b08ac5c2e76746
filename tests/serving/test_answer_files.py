"""Answers kept line by line: what a killed run leaves, what goes on, and the files made of it."""

import orjson
import pytest

from tests.serving.scripted import ANSWER, RLE, ROW
from tis_ray.errors import ConfigError
from tis_ray.instances import Categories
from tis_ray.serving.answer_files import AnswerLines, format_of, lines_path
from tis_ray.serving.answers import Result

ABOUT = {"score_threshold": 0.3, "model_version": "0123456789ab"}
CATEGORIES = Categories((3, 7), ("car", "person"))


def result(width: int, *rows: dict) -> Result:
    return Result.from_json(ANSWER | {"image": {"width": width, "height": 4, "sha256": "00"}, "instances": list(rows)})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.jsonl"


@pytest.fixture
def two(path):
    """A file with the answers of two images."""
    with AnswerLines.opened(path, about=ABOUT, resume=False) as lines:
        lines.append("b.jpg", result(20, ROW | {"segmentation": RLE, "mask_score": 0.25}))
        lines.append("a.jpg", result(10))
    return path


def names(path, **options) -> set[str]:
    with AnswerLines.opened(path, **({"about": ABOUT, "resume": True} | options)) as lines:
        return set(lines.names)


def test_each_line_is_an_answer_with_its_file_name(two):
    first, second = map(orjson.loads, two.read_bytes().splitlines())
    assert list(first)[:2] == ["file_name", "score_threshold"]
    assert (first["file_name"], second["file_name"]) == ("b.jpg", "a.jpg")
    assert first["instances"] == [ROW | {"segmentation": RLE, "mask_score": 0.25}]
    assert {key: first[key] for key in ANSWER if key not in ("image", "instances")} == {
        key: ANSWER[key] for key in ANSWER if key not in ("image", "instances")
    }


def test_answers_are_read_by_name(two):
    with AnswerLines.opened(two, about=ABOUT, resume=True) as lines:
        lines.append("c.jpg", result(30, *[ROW | {"segmentation": RLE}] * 2000))  # longer than is read at once
        lines.append("a.jpg", result(11))
        assert [lines.read(name)["image"]["width"] for name in ("c.jpg", "a.jpg", "b.jpg")] == [30, 11, 20]
        assert len(lines.read("c.jpg")["instances"]) == 2000
        with pytest.raises(KeyError):
            lines.read("d.jpg")
    with AnswerLines.opened(two, about=ABOUT, resume=True) as lines:
        assert [lines.read(name)["image"]["width"] for name in ("c.jpg", "a.jpg", "b.jpg")] == [30, 11, 20]


@pytest.mark.parametrize("left", range(1, 60, 7))
def test_a_line_that_was_cut_short_is_forgotten_wherever_that_was(two, left):
    whole = two.read_bytes()
    second = whole.index(b"\n") + 1
    two.write_bytes(whole[: second + left])
    assert names(two) == {"b.jpg"}
    assert two.read_bytes() == whole[:second]


def test_answers_are_lost_by_no_slip(two):
    before = two.read_bytes()
    with pytest.raises(ConfigError, match=r"--out: .* holds the answers of 2 images already; go on with --resume"):
        names(two, resume=False)
    assert two.read_bytes() == before


@pytest.mark.parametrize("content", [b"my diary", b"my diary\n", b'{"a": 1}\n', b'[{"file_name": "x"}]\n', b"\xff\n"])
@pytest.mark.parametrize("resume", [True, False])
def test_files_of_others_stay_as_they_are(path, content, resume):
    path.write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"--out: expected nothing there, or answers to go on with; .* line 1 is some"
    ):
        names(path, resume=resume)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("score_threshold", 0.5, r"score_threshold: expected 0\.3, with which .*, line 1 was answered; got 0\.5"),
        ("model_version", "ba", r"model_version: expected 0123456789ab, with which .* was answered; got ba"),
    ],
)
def test_answers_of_different_kinds_are_not_mixed(two, key, value, message):
    with pytest.raises(ConfigError, match=message):
        names(two, about=ABOUT | {key: value})


def test_one_process_at_a_time_writes(two):
    with (
        AnswerLines.opened(two, about=ABOUT, resume=True),
        pytest.raises(ConfigError, match="another process is writing"),
    ):
        names(two)


def test_a_file_without_answers_goes(path):
    assert names(path) == set()
    assert not path.exists()


def test_json_has_the_answers_in_the_order_of_the_images(two, tmp_path):
    out = tmp_path / "answers.json"
    with AnswerLines.opened(two, about=ABOUT, resume=True) as lines:
        lines.write(out, "json", ["a.jpg", "missing.jpg", "b.jpg"], CATEGORIES)
    assert [answer["file_name"] for answer in orjson.loads(out.read_bytes())] == ["a.jpg", "b.jpg"]
    assert orjson.loads(out.read_bytes())[1]["instances"] == [ROW | {"segmentation": RLE, "mask_score": 0.25}]


def test_coco_results_number_the_images_and_say_which_is_which(two, tmp_path):
    out = tmp_path / "answers.json"
    with AnswerLines.opened(two, about=ABOUT, resume=True) as lines:
        lines.write(out, "coco", ["a.jpg", "missing.jpg", "b.jpg"], CATEGORIES)
    row = {"image_id": 3, "category_id": 3, "bbox": ROW["bbox"], "score": 0.5, "segmentation": RLE, "mask_score": 0.25}
    assert orjson.loads(out.read_bytes()) == [row]
    assert orjson.loads((tmp_path / "answers.images.json").read_bytes()) == {
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 10, "height": 4},
            {"id": 3, "file_name": "b.jpg", "width": 20, "height": 4},
        ],
        "categories": [{"id": 3, "name": "car"}, {"id": 7, "name": "person"}],
    }


def test_the_suffix_says_the_format_where_nothing_else_does(tmp_path):
    assert format_of(tmp_path / "a.jsonl", None) == "jsonl"
    assert format_of(tmp_path / "a.json", None) == "json"
    assert format_of(tmp_path / "a.jsonl", "coco") == "coco"
    assert lines_path(tmp_path / "a.jsonl", "jsonl") == tmp_path / "a.jsonl"
    assert lines_path(tmp_path / "a.json", "coco") == tmp_path / "a.json.partial"
    with pytest.raises(ConfigError, match="--format: expected one of json, jsonl, coco; got 'xml'"):
        format_of(tmp_path / "a.json", "xml")
