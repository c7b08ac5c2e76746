"""Training samples and batches of a small COCO folder."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tis_ray.data.dataset import Augmentations, TrainingSet, check_files
from tis_ray.data.loading import Batches
from tis_ray.data.mosaic import Mosaic
from tis_ray.data.photometric import Photometric
from tis_ray.data.plan import Draw, EpochPlan
from tis_ray.data.regions import ValidTrainingRegion
from tis_ray.data.rotation import Rotation
from tis_ray.data.sampling import every
from tis_ray.data.scale_jitter import ScaleJitter
from tis_ray.errors import DataError
from tis_ray.formats import coco
from tis_ray.formats.stuff_maps import StuffMaps

SIZES_WH = [(60, 40), (40, 60), (120, 10), (50, 50), (64, 48)]


@pytest.fixture
def folder(tmp_path):
    """Five images of different shapes with i objects in image i; the file `3.png` is 50x50."""
    images, annotations = [], []
    for i, (width, height) in enumerate(SIZES_WH):
        pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        images.append({"id": 10 + i, "file_name": f"{i}.png", "width": width, "height": height})
        for k in range(i):
            box = [2 + 3 * k, 1 + k, 6, 5]
            annotations.append({"id": len(annotations) + 1, "image_id": 10 + i, "category_id": 1 + k % 2, "bbox": box})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path


def training_set(folder, **options):
    settings = {"scales": (32, 48, 64), "max_long_edge": 200, "flip_probability": 0.5, "seed": 0} | options
    return TrainingSet(coco.read(folder / "instances.json"), **settings)


def test_samples_are_resized_to_one_of_the_scales(folder):
    dataset = training_set(folder)
    seen = set()
    for epoch in range(12):
        dataset.set_epoch(epoch)
        for index, (width, height) in enumerate(SIZES_WH):
            image, annotations, image_id = dataset[Draw(index)]
            assert image.dtype == torch.uint8
            assert image_id == 10 + index
            assert len(annotations) == index
            if width != 120:
                assert min(image.shape[1:]) in (32, 48, 64)
                seen.add(min(image.shape[1:]))
            assert max(image.shape[1:]) <= 200
            assert abs(image.shape[2] / image.shape[1] - width / height) < 0.1 * width / height
    assert seen == {32, 48, 64}


def test_one_scale_and_no_flip_is_the_plain_picture(folder):
    image, annotations, _ = training_set(folder, scales=(50,), flip_probability=0)[Draw(3)]
    with Image.open(folder / "3.png") as picture:
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), np.asarray(picture))
    np.testing.assert_array_equal(annotations.boxes[2], [8, 3, 14, 8])
    mirrored, flipped, _ = training_set(folder, scales=(50,), flip_probability=1)[Draw(3)]
    assert torch.equal(mirrored, image.flip(-1))
    np.testing.assert_array_equal(flipped.boxes[2], [36, 3, 42, 8])


def test_a_sample_depends_on_seed_epoch_and_index_alone(folder):
    first, second = training_set(folder), training_set(folder)
    for index in (4, 0, 2):
        second[Draw(index)]
    for epoch in range(4):
        first.set_epoch(epoch)
        second.set_epoch(epoch)
        assert torch.equal(first[Draw(1)].image, second[Draw(1)].image)
    shapes = {seed: [] for seed in range(2)}
    for seed, found in shapes.items():
        dataset = training_set(folder, seed=seed)
        for epoch in range(12):
            dataset.set_epoch(epoch)
            found.append(dataset[Draw(4)].image.shape)
    assert shapes[0] != shapes[1]
    assert len(set(shapes[0])) == 3


def test_a_region_leaves_the_other_draws_as_they_are(folder):
    plain, unused = training_set(folder), training_set(folder, region=ValidTrainingRegion(0.0))
    for epoch in range(3):
        plain.set_epoch(epoch)
        unused.set_epoch(epoch)
        for index in range(len(plain)):
            assert torch.equal(plain[Draw(index)].image, unused[Draw(index)].image)


def test_samples_are_cut_to_what_surrounds_their_objects(tmp_path):
    """One object of 300x200 px in 900x700; the picture is black but for it and its margin of 50 px."""
    pixels = np.zeros((700, 900, 3), dtype=np.uint8)
    pixels[250:550, 350:750] = 200
    Image.fromarray(pixels).save(tmp_path / "0.png")
    content = {
        "images": [{"id": 1, "file_name": "0.png", "width": 900, "height": 700}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [400, 300, 300, 200]}],
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    region = ValidTrainingRegion(0.5)
    options = {"scales": (300,), "max_long_edge": 4000}
    seen = set()
    for seed in range(20):
        image, annotations, _ = training_set(tmp_path, region=region, seed=seed, flip_probability=0, **options)[Draw(0)]
        seen.add(tuple(image.shape[1:]))
        if image.shape[1:] == (300, 400):
            assert (image == 200).all()
            np.testing.assert_array_equal(annotations.boxes, [[50, 50, 350, 250]])
    assert seen == {(300, 400), (300, 386)}
    always = training_set(tmp_path, region=ValidTrainingRegion(1.0), **options | {"flip_probability": 1})
    mirrored, flipped, _ = always[Draw(0)]
    assert mirrored.untyped_storage().nbytes() == mirrored.numel()
    np.testing.assert_array_equal(flipped.boxes, [[50, 50, 350, 250]])


def plan(dataset, batch_size=2):
    return EpochPlan(every.build(dataset.truth), batch_size=batch_size, seed=0)


def batches(folder, processes):
    dataset = training_set(folder)
    return Batches(dataset, plan(dataset), loader_processes=processes)


def test_loader_processes_do_not_change_the_batches(folder):
    alone, several = batches(folder, 0), batches(folder, 2)
    assert len(alone) == len(several) == 3
    for epoch in (0, 1, 5):
        for one, other in zip(alone.epoch(epoch), several.epoch(epoch), strict=True):
            assert one.image_ids == other.image_ids
            for left, right in zip(one.images, other.images, strict=True):
                assert torch.equal(left, right)
            for left, right in zip(one.annotations, other.annotations, strict=True):
                np.testing.assert_array_equal(left.boxes, right.boxes)


def test_an_epoch_holds_images_without_objects_too(folder):
    ids = [image_id for batch in batches(folder, 0).epoch(0) for image_id in batch.image_ids]
    assert sorted(ids) == [10, 11, 12, 13, 14]


def test_missing_files_are_counted_before_training(folder):
    dataset = coco.read(folder / "instances.json")
    check_files(dataset)
    (folder / "1.png").unlink()
    (folder / "4.png").unlink()
    with pytest.raises(DataError, match=r"2 of its 5 image files are missing.*1\.png"):
        check_files(dataset)


@pytest.mark.parametrize("processes", [0, 2])
def test_a_truncated_image_is_one_line_naming_the_file(folder, processes):
    data = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"3\.png") as caught:
        list(batches(folder, processes).epoch(0))
    assert "\n" not in str(caught.value)


def test_an_image_of_another_size_than_listed_is_an_error(folder):
    Image.new("RGB", (49, 50)).save(folder / "3.png")
    with pytest.raises(DataError, match=r"3\.png: expected 50x50 .* got 49x50"):
        training_set(folder)[Draw(3)]


def test_maps_of_stuff_follow_their_pictures(folder):
    """The red channel of each picture is its map of stuff too; one image has none, and its truth is unknown."""
    (folder / "stuff").mkdir()
    for i in (0, 2, 3, 4):
        pixels = np.array(Image.open(folder / f"{i}.png"))
        pixels[..., 0] //= 2
        Image.fromarray(pixels).save(folder / f"{i}.png")
        Image.fromarray(pixels[..., 0]).save(folder / "stuff" / f"{i}.png")
    same = {"scales": (48,), "max_long_edge": None, "stuff": StuffMaps(folder / "stuff", 128)}
    for flip in (0, 1):  # of 64 x 48 px: sizes stay
        image, annotations, _ = training_set(folder, flip_probability=flip, **same)[Draw(4)]
        np.testing.assert_array_equal(annotations.stuff, image[0].numpy())
    dataset = training_set(folder, **same)
    for index in (0, 2, 3):
        image, annotations, _ = dataset[Draw(index)]
        assert annotations.stuff.shape == tuple(image.shape[1:])
    assert dataset[Draw(1)].annotations.stuff is None
    assert training_set(folder)[Draw(4)].annotations.stuff is None
    (batch,) = Batches(dataset, plan(dataset, 5), loader_processes=1).epoch(0)
    assert sorted(one.stuff is None for one in batch.annotations) == [False] * 4 + [True]


def test_a_wrong_map_of_stuff_is_one_line_naming_the_file(folder):
    (folder / "stuff").mkdir()
    Image.fromarray(np.full((50, 50), 40, np.uint8)).save(folder / "stuff" / "3.png")
    dataset = training_set(folder, stuff=StuffMaps(folder / "stuff", 40))
    with pytest.raises(DataError, match=r"stuff/3\.png: expected values 0 to 39, .* got 40"):
        list(Batches(dataset, plan(dataset)).epoch(0))


EVERYTHING = Augmentations(Mosaic(0.5), ScaleJitter(0.5, 2), Rotation(0.5), Photometric(0.5))


def samples(folder, epochs=4, **options):
    dataset = training_set(folder, **options)
    found = []
    for epoch in range(epochs):
        dataset.set_epoch(epoch)
        found += [dataset[Draw(index, copy)] for index in range(len(dataset)) for copy in range(2)]
    return found


def test_a_range_draws_every_scale_between(folder):
    found = samples(folder, 12, scales=(32, 36), scale_sampling="range", max_long_edge=None)
    assert {min(image.shape[1:]) for image, _, _ in found} == {32, 33, 34, 35, 36}


def test_augmentations_that_are_not_drawn_leave_the_samples_as_they_are(folder):
    never = Augmentations(Mosaic(0.0), ScaleJitter(1, 1), Rotation(0.0), Photometric(0.0))
    for plain, unused in zip(samples(folder), samples(folder, augment=never), strict=True):
        assert torch.equal(plain.image, unused.image)
        np.testing.assert_array_equal(plain.annotations.boxes, unused.annotations.boxes)


def test_an_augmentation_leaves_the_draws_of_the_others_as_they_are(folder):
    """With and without new colours, the samples are the same but for their colours."""
    without = samples(folder, augment=Augmentations(Mosaic(0.5), ScaleJitter(0.5, 2), Rotation(0.5)))
    changed = 0
    for plain, coloured in zip(without, samples(folder, augment=EVERYTHING), strict=True):
        np.testing.assert_array_equal(plain.annotations.boxes, coloured.annotations.boxes)
        changed += not torch.equal(plain.image, coloured.image)
    assert 8 < changed < 32


def test_augmented_samples_are_the_same_whenever_and_wherever_they_are_drawn(folder):
    first = samples(folder, augment=EVERYTHING)
    for one, other in zip(first, samples(folder, augment=EVERYTHING), strict=True):
        assert torch.equal(one.image, other.image)
    assert any(not torch.equal(first[i].image, first[i + 1].image) for i in range(0, len(first), 2))  # copies differ
    dataset = training_set(folder, augment=EVERYTHING)
    alone, several = (Batches(dataset, plan(dataset), loader_processes=count) for count in (0, 2))
    for one, other in zip(alone.epoch(1), several.epoch(1), strict=True):
        for left, right in zip(one.images, other.images, strict=True):
            assert torch.equal(left, right)
        for left, right in zip(one.annotations, other.annotations, strict=True):
            np.testing.assert_array_equal(left.boxes, right.boxes)
            assert left.masks.areas().tolist() == right.masks.areas().tolist()


def test_mosaics_hold_the_objects_of_four_images_of_the_set(folder):
    """Image i has i objects; the canvas is that of the first image at its scale."""
    found = samples(folder, 6, augment=Augmentations(mosaic=Mosaic(1.0, 0.0)), scales=(64,), max_long_edge=None)
    assert {image.shape[1] for image, _, _ in found} == {64, 96}
    counts = [len(annotations) for _, annotations, _ in found]
    assert max(counts) > 8
    for image, annotations, _ in found:
        assert (annotations.boxes >= 0).all()
        assert (annotations.boxes[:, [3, 2]] <= image.shape[1:]).all()


def test_a_broken_part_of_a_mosaic_is_named(folder):
    data = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"3\.png"):
        samples(folder, 8, augment=Augmentations(mosaic=Mosaic(1.0)))
