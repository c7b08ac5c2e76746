"""How often each image is drawn by the samplers of the menu."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tis_ray import menu
from tis_ray.config import Choice
from tis_ray.data.sampling import class_aware, every, image_sampler, repeat_factor
from tis_ray.errors import ConfigError, DataError
from tis_ray.formats.coco import CocoDataset
from tis_ray.formats.dataset import ImageRecord
from tis_ray.formats.wad import WadDataset
from tis_ray.instances import Categories

SAMPLERS = menu.choices("tis_ray.data.sampling")
NAMES = "abcdefgh"


def data_set(held: list[str], **entry: object) -> CocoDataset:
    """A data set whose i-th image holds the classes of the i-th word, a letter each; `entry` are further fields."""
    records = [ImageRecord(10 * i, f"{i}.png", Path(f"{i}.png"), 100, 100) for i in range(len(held))]
    ids = {name: 3 * k + 2 for k, name in enumerate(NAMES)}
    entries = [
        {"id": 1, "image_id": 10 * i, "category_id": ids[name], "bbox": [0, 0, 5, 5], **entry}
        for i, word in enumerate(held)
        for name in word
    ]
    return CocoDataset(Path("some.json"), records, Categories(tuple(ids.values()), tuple(NAMES)), entries)


def epochs(sampler, count, seed=0):
    return [sampler(np.random.default_rng((seed, epoch))) for epoch in range(count)]


# ------------------------------------------------------------------------------------------ All of them


@pytest.mark.parametrize("name", SAMPLERS)
def test_epochs_are_of_one_length_and_drawn_by_the_generator_alone(name):
    truth = data_set(["a", "ab", "", "c", "aa", "", "ad", "b"])
    sampler = image_sampler(Choice(name=name), truth)
    drawn = epochs(sampler, 20)
    assert {len(one) for one in drawn} == {len(drawn[0])}
    assert {one.dtype for one in drawn} == {np.dtype(np.int64)}
    for one, again in zip(drawn, epochs(sampler, 20), strict=True):
        np.testing.assert_array_equal(one, again)
        assert ((one >= 0) & (one < 8)).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_image_is_an_epoch(name):
    (drawn,) = epochs(image_sampler(Choice(name=name), data_set(["a"])), 1)
    assert drawn.tolist() == [0]


def test_every_draws_each_image_once():
    for drawn in epochs(every.build(data_set(["a", "", "bb"])), 3):
        assert sorted(drawn) == [0, 1, 2]


def test_an_unknown_name_and_an_unknown_option_are_refused():
    with pytest.raises(ConfigError, match=r"data\.sampling: .*'repeat_factors'; did you mean 'repeat_factor'"):
        image_sampler(Choice(name="repeat_factors"), data_set(["a"]))
    with pytest.raises(ConfigError, match=r"data\.sampling\.repeat_factor\.threshold: .*greater than 0"):
        image_sampler(Choice(name="repeat_factor", options={"threshold": 0}), data_set(["a"]))
    with pytest.raises(ConfigError, match=r"data\.sampling\.class_aware\.empty_share"):
        image_sampler(Choice(name="class_aware", options={"empty_share": 1}), data_set(["a"]))


@pytest.mark.parametrize("name", ["repeat_factor", "class_aware"])
def test_label_images_are_not_opened_for_their_classes(name):
    record = ImageRecord(1, "a.jpg", Path("a.jpg"), 10, 10)
    truth = WadDataset(Path("labels"), [record], [Path("labels/a_instanceIds.png")], rider=False)
    with pytest.raises(ConfigError, match=r"data\.sampling: expected 'every' for label images.* 1 in labels"):
        image_sampler(Choice(name=name), truth)
    assert epochs(image_sampler(Choice(name="every"), truth), 1)[0].tolist() == [0]


# ------------------------------------------------------------------------------------------ Repeat factors


def test_factors_of_rare_classes():
    """Of 10000 images a class is in 1, 4, 10 and 40; one image holds those of 4 and of 40."""
    held = ["a"] + ["b"] * 3 + ["bd"] + ["c"] * 10 + ["d"] * 39
    images, classes = np.array([(i, "abcd".index(c)) for i, word in enumerate(held) for c in word]).T
    factors = repeat_factor.repeat_factors(images, classes, num_images=10_000, threshold=0.001)
    np.testing.assert_allclose(factors[:5], [3.162278, 1.581139, 1.581139, 1.581139, 1.581139], atol=1e-6)
    assert (factors[5:] == 1).all()


def test_images_come_as_often_as_their_factors_say():
    held = ["abc", "b", "b", "cd", "c", "c", "c", "", ""] + ["d"] * 51
    truth = data_set(held)
    shares = {name: sum(name in word for word in held) / len(held) for name in NAMES}
    factors = np.array([max([1.0, *((0.3 / shares[c]) ** 0.5 for c in word)]) for word in held])
    drawn = epochs(repeat_factor.build(truth, threshold=0.3), 3000)
    assert {len(one) for one in drawn} == {round(factors.sum())}
    times = np.stack([np.bincount(one, minlength=len(held)) for one in drawn])
    assert ((times == np.floor(factors)) | (times == np.ceil(factors))).all()
    assert (times[:, factors == 1] == 1).all()
    parts = factors - np.floor(factors)
    stretch = round(parts.sum()) / parts.sum()  # so that they sum up to a whole number
    np.testing.assert_allclose(times.mean(axis=0), np.floor(factors) + stretch * parts, atol=0.03)


def test_images_of_one_factor_are_drawn_independently_of_their_place():
    """Systematic marks on an unshuffled list would show every second image together with its second neighbour."""
    sampler = repeat_factor.build(data_set(["a"] * 8 + ["b"] * 10), threshold=1.0)
    times = np.stack([np.bincount(one, minlength=18) for one in epochs(sampler, 2000)])
    seen = np.corrcoef(times[:, :8].T)[np.triu_indices(8, 1)]
    assert seen.max() < 0.1


def test_frequent_classes_leave_every_image_once():
    for drawn in epochs(repeat_factor.build(data_set(["a", "ab", "b", ""]), threshold=0.25), 3):
        assert drawn.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("entry", [{"iscrowd": 1}, {"bbox": [3, 3, 0, 4]}], ids=["crowd", "no area"])
def test_what_is_no_object_makes_no_class_frequent(entry):
    truth = data_set(["a", "b", "b"], **entry)
    assert epochs(repeat_factor.build(truth, threshold=1.0), 1)[0].tolist() == [0, 1, 2]
    with pytest.raises(DataError, match=r"some\.json: expected objects, .*class_aware"):
        class_aware.build(truth)


# ------------------------------------------------------------------------------------------ Classes alike


def test_every_class_has_as_many_draws():
    held = ["a"] * 40 + ["b"] * 3 + ["c"] * 16 + [""]
    for drawn in epochs(class_aware.build(data_set(held)), 5):
        assert len(drawn) == 60
        assert Counter(held[i] for i in drawn) == {"a": 20, "b": 20, "c": 20}


def test_classes_that_do_not_divide_an_epoch_take_turns():
    held = ["a", "a", "a", "b", "c"]
    of_epochs = [Counter(held[i] for i in drawn) for drawn in epochs(class_aware.build(data_set(held)), 1500)]
    assert {tuple(sorted(one.values())) for one in of_epochs} == {(1, 2, 2)}
    assert all(abs(sum(one[name] for one in of_epochs) / 1500 - 5 / 3) < 0.05 for name in "abc")


def test_no_image_of_a_class_comes_again_before_all_have_come():
    held = ["a"] * 4 + ["b"] * 26
    for drawn in epochs(class_aware.build(data_set(held)), 20):
        times = np.bincount(drawn, minlength=30)
        assert set(times[:4]) == {3, 4}
        assert set(times[4:]) == {0, 1}


def test_images_of_a_class_come_alike_over_many_epochs():
    held = ["a", "a", "a", "ab", "b"]
    drawn = np.concatenate(epochs(class_aware.build(data_set(held)), 3000))
    share = np.bincount(drawn) / len(drawn)
    np.testing.assert_allclose(share, [1 / 8, 1 / 8, 1 / 8, 1 / 8 + 1 / 4, 1 / 4], atol=0.01)


def test_images_without_objects_have_their_share():
    held = ["a"] * 10 + ["b"] * 5 + [""] * 5
    for drawn in epochs(class_aware.build(data_set(held), empty_share=0.3), 5):
        assert Counter(held[i] for i in drawn) == {"a": 7, "b": 7, "": 6}
    for drawn in epochs(class_aware.build(data_set(["a", "b"]), empty_share=0.5), 2):
        assert sorted(drawn) == [0, 1]
