"""Which image of a data set an image of a run is: by names, folders and ids."""

from pathlib import Path

import pytest

from tests.tiny import CATEGORIES
from tis_ray.errors import DataError
from tis_ray.formats.coco import CocoDataset
from tis_ray.formats.dataset import ImageRecord
from tis_ray.formats.image_list import ListedImage
from tis_ray.instances import Instances
from tis_ray.runs.joining import Join
from tis_ray.runs.records import ImageOutcome


def joined(names: tuple[str, ...], *images: tuple[int, str], size_hw: tuple[int, int] = (4, 5)) -> list[int | None]:
    """The ids of the records of some images of a run, by id and name; records have these names and ids from 1."""
    records = [ImageRecord(id_, name, Path(name), 4, 5) for id_, name in enumerate(names, start=1)]
    listed = [ListedImage(id_, name, Path(name)) for id_, name in images]
    join = Join(CocoDataset(Path("gt.json"), records, CATEGORIES, ()), listed)
    found = [join(ImageOutcome(one.id, one.file_name, size_hw, "ok", Instances.empty())) for one in listed]
    return [None if record is None else record.id for record in found]


@pytest.mark.parametrize(
    ("records", "image", "expected"),
    [
        pytest.param(("a.png", "b.png"), (2, "b.png"), 2, id="same name and id"),
        pytest.param(("a.png", "b.png"), (1, "b.png"), 2, id="same name, another's id"),
        pytest.param(("val/a.png",), (7, "a.png"), 1, id="a folder that one does not say"),
        pytest.param(("val/a.png",), (7, "frames/a.png"), 1, id="another folder, the only such name"),
        pytest.param(("left/1.png", "right/1.png"), (1, "right/1.png"), 2, id="same last part, another's id"),
        pytest.param(("left/1.png", "right/1.png"), (2, "1.png"), 2, id="same last part, own id"),
        pytest.param(("left/1.png", "right/1.png"), (9, "1.png"), None, id="nobody knows which"),
        pytest.param(("left/1.png", "right/1.png"), (1, "back/1.png"), None, id="neither's folder"),
        pytest.param(("1.png", "left/1.png"), (9, "left/1.png"), 2, id="exactly one's name"),
        pytest.param(("a.png",), (1, "b.png"), None, id="same id alone"),
    ],
)
def test_images_are_joined_by_name(records: tuple[str, ...], image: tuple[int, str], expected: int | None) -> None:
    assert joined(records, image) == [expected]


def test_what_another_image_is_by_its_folder_is_nobody_elses() -> None:
    assert joined(("val/a.png",), (1, "train/a.png"), (2, "val/a.png")) == [None, 1]


def test_two_images_of_a_run_are_not_taken_for_one() -> None:
    with pytest.raises(DataError, match=r"one image of the run for image 1 \(a\.png\); got left/a\.png and right/a\.p"):
        joined(("a.png", "b.png"), (1, "left/a.png"), (2, "b.png"), (3, "right/a.png"))


def test_an_image_of_another_size_is_refused_but_not_one_that_could_not_be_opened() -> None:
    assert joined(("a.png",), (1, "a.png"), size_hw=(0, 0)) == [1]
    with pytest.raises(DataError, match=r"expected image 1 \(a\.png\) to be \(5, 4\)"):
        joined(("a.png",), (1, "a.png"), size_hw=(5, 4))
