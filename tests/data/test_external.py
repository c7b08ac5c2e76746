"""Images of another data set among those of the training set."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tis_ray.data.dataset import TrainingSet
from tis_ray.data.external import JoinedTruth
from tis_ray.data.loading import Batches
from tis_ray.data.plan import Draw, EpochPlan, Source, some_of
from tis_ray.errors import DataError
from tis_ray.formats import coco, wad
from tis_ray.formats.wad_classes import EVALUATED
from tis_ray.instances import Categories

TRAINED = Categories((1, 3, 5), ("car", "person", "bus"))


def write_set(folder: Path, names: list[str], held: list[list[str]], *, grey: int = 0) -> Path:
    """A COCO file of the classes `names`, ids from 20 falling, with an image of one `grey` for each list of objects."""
    folder.mkdir(exist_ok=True)
    ids = {name: 20 - i for i, name in enumerate(names)}
    annotations = []
    for i, objects in enumerate(held):
        Image.new("RGB", (32, 32), (grey,) * 3).save(folder / f"{i}.png")
        annotations += [
            {"id": 100 * i + k, "image_id": 7 * i, "category_id": ids[name], "bbox": [k, 1, 6, 5]}
            for k, name in enumerate(objects)
        ]
    content = {
        "images": [{"id": 7 * i, "file_name": f"{i}.png", "width": 32, "height": 32} for i in range(len(held))],
        "annotations": annotations,
        "categories": [{"id": id_, "name": name} for name, id_ in ids.items()],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / "instances.json"


def test_classes_are_joined_by_name(tmp_path: Path) -> None:
    names = ["bus", "person", "car"]
    joined = JoinedTruth(coco.read(write_set(tmp_path, names, [["bus", "car"], [], ["person"]])), TRAINED)
    assert [joined.annotations(id_).labels.tolist() for id_ in (0, 7, 14)] == [[2, 0], [], [1]]
    assert [entry["category_id"] for entry in joined.entries(0)] == [5, 1]
    assert joined.annotations(0).labels.dtype == np.int32
    assert joined.annotations(0).unverified is None
    assert (len(joined), joined.categories, joined.in_memory) == (3, TRAINED, True)
    assert joined.image(14) == joined.images[2]


def test_a_class_that_it_lacks_is_one_that_nobody_looked_for(tmp_path: Path) -> None:
    joined = JoinedTruth(coco.read(write_set(tmp_path, ["bus", "car"], [["bus"]])), TRAINED)
    found = joined.annotations(0)
    assert found.labels.tolist() == [2]
    assert found.unverified is not None
    assert found.unverified.tolist() == [False, True, False]


def test_what_it_says_of_its_own_classes_stays(tmp_path: Path) -> None:
    path = write_set(tmp_path, ["bus", "car"], [["bus"]])
    content = json.loads(path.read_text())
    content["images"][0] |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    path.write_text(json.dumps(content))
    joined = JoinedTruth(coco.read(path), TRAINED)
    unverified = joined.annotations(0).unverified
    assert unverified is not None
    assert unverified.tolist() == [True, True, False]  # federated: of classes on no list nobody knows


def test_a_region_to_ignore_stays_one_of_any_class(tmp_path: Path) -> None:
    labels = np.zeros((8, 8), np.uint16)
    labels[:4], labels[5:, 2:] = 33_000, 65535
    Image.fromarray(labels).save(tmp_path / "a_instanceIds.png")
    joined = JoinedTruth(wad.read(tmp_path, tmp_path), Categories(tuple(range(7)), EVALUATED.names[::-1]))
    found = joined.annotations(1)
    assert found.labels.tolist() == [6, -1]
    assert found.crowd.tolist() == [False, True]
    assert not joined.in_memory


def test_a_class_that_is_not_trained_is_refused(tmp_path: Path) -> None:
    path = write_set(tmp_path, ["bus", "boat"], [["bus"]])
    with pytest.raises(DataError, match=r"instances\.json: categories: .* got boat$"):
        JoinedTruth(coco.read(path), TRAINED)


@pytest.mark.parametrize("processes", [0, 2])
def test_batches_of_either_are_read_from_their_own_files_and_weighted(tmp_path: Path, processes: int) -> None:
    train = coco.read(write_set(tmp_path / "train", ["bus"], [["bus"]] * 3, grey=50))
    other = coco.read(write_set(tmp_path / "other", ["bus"], [["bus", "bus"]] * 5, grey=200))
    options = {"scales": (32,), "max_long_edge": None, "flip_probability": 0.0, "seed": 0}
    batches = Batches(
        TrainingSet(train, **options),
        EpochPlan(lambda _: np.arange(3), batch_size=2, seed=0, external=Source(some_of(5, most=4))),
        external=TrainingSet(JoinedTruth(other, train.categories), **options),
        loss_weight=0.25,
        loader_processes=processes,
    )
    seen: dict[bool, list[int]] = {False: [], True: []}
    for batch in batches.epoch(1):
        assert batch.loss_weight == (0.25 if batch.external else 1)
        assert {int(image.max()) for image in batch.images} == {200 if batch.external else 50}
        assert {len(annotations) for annotations in batch.annotations} == {2 if batch.external else 1}
        seen[batch.external] += batch.image_ids
    assert sorted(seen[False]) == [0, 7, 14]
    assert len(set(seen[True])) == 4
    assert len(batches) == 4


def test_a_broken_external_image_is_named(tmp_path: Path) -> None:
    train = coco.read(write_set(tmp_path / "train", ["bus"], [["bus"]]))
    other = coco.read(write_set(tmp_path / "other", ["bus"], [["bus"]]))
    (tmp_path / "other" / "0.png").write_bytes(b"none")
    options = {"scales": (32,), "max_long_edge": None, "flip_probability": 0.0, "seed": 0}
    batches = Batches(
        TrainingSet(train, **options),
        EpochPlan(lambda _: np.arange(1), batch_size=2, seed=0, external=Source(some_of(1, most=4))),
        external=TrainingSet(JoinedTruth(other, train.categories), **options),
    )
    with pytest.raises(DataError, match=r"other/0\.png"):
        list(batches.epoch(0))


def test_external_images_are_varied_otherwise_than_those_of_their_numbers(tmp_path: Path) -> None:
    truth = coco.read(write_set(tmp_path / "train", ["bus"], [["bus"]] * 8))
    samples = TrainingSet(
        truth, scales=(16, 64), scale_sampling="range", max_long_edge=None, flip_probability=0.5, seed=0
    )
    own, external, again = (
        [samples[Draw(i, external=of_others)].image.shape for i in range(8)] for of_others in (False, True, True)
    )
    assert external == again
    assert sum(one != other for one, other in zip(own, external, strict=True)) > 4
