"""One member's views: frames, flips, labels and odd pictures."""

from pathlib import Path

import numpy as np
import pytest

from tests.tiny import CATEGORIES
from tis_ray.errors import ConfigError, InputError
from tis_ray.inference.predictor import Predictor
from tis_ray.instances import Categories
from tis_ray.views import View


@pytest.fixture(scope="module")
def predictor(tiny_checkpoint: Path) -> Predictor:
    return Predictor.from_checkpoint(tiny_checkpoint, device="cpu")


def test_instances_lie_in_the_image_frame_at_every_scale(predictor: Predictor, picture: np.ndarray) -> None:
    for found in predictor.predict(picture, [View("m", 64), View("m", 160, flip=True), View("m", 80)]):
        assert len(found)
        found.check_values(num_classes=3)
        assert (found.boxes >= -1e-3).all()
        assert (found.boxes <= np.array([112, 80, 112, 80]) + 1e-3).all()
        assert found.masks is not None
        np.testing.assert_array_equal(found.masks.boxes, found.boxes)


def test_flipped_view_of_mirrored_picture_mirrors_the_answer(predictor: Predictor, picture: np.ndarray) -> None:
    """The network sees the same pixels, so boxes and masks must be mirror images of each other."""
    mirrored = np.ascontiguousarray(picture[:, ::-1])
    (plain,) = predictor.predict(picture, [View("m", 80)])
    (flipped,) = predictor.predict(mirrored, [View("m", 80, flip=True)])
    np.testing.assert_allclose(flipped.scores, plain.scores, atol=1e-5)
    np.testing.assert_allclose(flipped.boxes[:, [2, 1, 0, 3]], np.abs([112, 0, 112, 0] - plain.boxes), atol=1e-3)
    np.testing.assert_allclose(flipped.masks.probabilities[:, :, ::-1], plain.masks.probabilities, atol=1e-2)


def test_crop_view_equals_the_cropped_picture_moved(predictor: Predictor, picture: np.ndarray) -> None:
    (cropped,) = predictor.predict(picture, [View("m", 64, crop=(20, 10, 100, 74))])
    (alone,) = predictor.predict(np.ascontiguousarray(picture[10:74, 20:100]), [View("m", 64)])
    np.testing.assert_allclose(cropped.boxes, alone.boxes + np.array([20, 10, 20, 10]), atol=1e-3)
    np.testing.assert_array_equal(cropped.labels, alone.labels)


def test_views_come_back_in_the_order_asked(predictor: Predictor, picture: np.ndarray) -> None:
    views = [View("m", 96, flip=True), View("m", 64), View("m", 96), View("m", 64, flip=True)]
    together = predictor.predict(picture, views)
    for view, found in zip(views, together, strict=True):
        (alone,) = predictor.predict(picture, [view])
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-2)


def test_mirrored_twins_share_a_batch(predictor: Predictor, picture: np.ndarray) -> None:
    sizes: list[int] = []
    hook = predictor.detector.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    crops = [(), (10, 10, 90, 70)]
    predictor.predict(picture, [View("m", 64, flip, crop) for flip in (False, True) for crop in crops])
    hook.remove()
    assert sizes == [2, 2]


def test_a_picture_with_negative_strides_is_taken(predictor: Predictor, picture: np.ndarray) -> None:
    (found,) = predictor.predict(picture[..., ::-1], [View("m", 64)])
    (copied,) = predictor.predict(picture[..., ::-1].copy(), [View("m", 64)])
    np.testing.assert_array_equal(found.boxes, copied.boxes)


def test_read_only_picture_is_not_touched(predictor: Predictor, picture: np.ndarray) -> None:
    before = picture.copy()
    picture.setflags(write=False)
    predictor.predict(picture, [View("m", 64, flip=True)])
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3)])
def test_strange_shapes(predictor: Predictor, size: tuple[int, int]) -> None:
    (found,) = predictor.predict(np.zeros((*size, 3), np.uint8), [View("m", 16, max_long_edge=128)])
    found.check_values(num_classes=3)


def test_labels_follow_the_ensembles_table(tiny_checkpoint: Path, picture: np.ndarray, predictor: Predictor) -> None:
    reordered = Categories((1, 2, 3), ("bus", "car", "person"))
    other = Predictor.from_checkpoint(tiny_checkpoint, device="cpu", categories=reordered)
    (own,), (mapped,) = predictor.predict(picture, [View("m", 64)]), other.predict(picture, [View("m", 64)])
    assert [CATEGORIES.names[i] for i in own.labels] == [reordered.names[i] for i in mapped.labels]


def test_class_missing_from_the_ensemble_is_named(tiny_checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"person not among the expected classes \(car, bus\)"):
        Predictor.from_checkpoint(tiny_checkpoint, device="cpu", categories=Categories((1, 2), ("car", "bus")))


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8), [[0]]],
    ids=["grey", "float", "empty", "list"],
)
def test_anything_but_rgb_is_refused(predictor: Predictor, image: object) -> None:
    with pytest.raises(InputError, match=r"image: expected .*; got"):
        predictor.predict(image, [View("m", 64)])
