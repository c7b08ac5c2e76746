"""A client's result as arrays: beside what the service had before it wrote JSON, pycocotools and supervision itself."""

import sys

import numpy as np
import orjson
import pytest
from pycocotools import mask as coco_mask

from tests.serving.scripted import ANSWER
from tis_ray.errors import InputError
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.serving.answer import write_instances
from tis_ray.serving.answers import Result

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own

CATEGORIES = Categories((7, 9, 40), ("person", "car", "traffic sign"))
HEIGHT, WIDTH = 60, 80


def answered(found: Instances, masks: str = "rle") -> Result:
    """What a client has of these instances, by way of JSON."""
    rows = write_instances(found, categories=CATEGORIES, image_hw=(HEIGHT, WIDTH), masks=masks)
    answer = ANSWER | {"image": {"width": WIDTH, "height": HEIGHT, "sha256": ""}, "instances": rows}
    return Result.from_json(orjson.loads(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)))


@pytest.fixture
def partly_masked(found: Instances) -> Instances:
    """The three instances, the second without a mask; masks have a quality of their own and reach beyond the boxes."""
    assert isinstance(found.masks, BoxMasks)
    masks = BoxMasks(
        found.masks.boxes + np.float32([-3, -3, 3, 3]),
        found.masks.probabilities,
        np.array([True, False, True]),
        quality=np.array([0.5, 1, 0.75], dtype=np.float32),
    )
    return Instances.of(found.boxes, found.scores, found.labels, masks)


def decoded(result: Result) -> np.ndarray:
    """Masks (N, H, W) as pycocotools reads the answer; empty where an instance has none."""
    masks = np.zeros((len(result.instances), HEIGHT, WIDTH), dtype=bool)
    for mask, one in zip(masks, result.instances, strict=True):
        if one.segmentation:
            mask[:] = coco_mask.decode(one.segmentation).astype(bool)
    return masks


def test_instances_are_those_that_the_service_had(partly_masked):
    found = answered(partly_masked).to_instances(CATEGORIES)
    np.testing.assert_array_equal(found.scores, partly_masked.scores)
    np.testing.assert_array_equal(found.labels, partly_masked.labels)
    np.testing.assert_allclose(found.boxes, partly_masked.boxes, atol=1e-5)
    np.testing.assert_array_equal(found.masks.present, [True, False, True])
    np.testing.assert_allclose(found.masks.quality, partly_masked.masks.quality, rtol=1e-6)
    assert found.masks.to_rle(HEIGHT, WIDTH) == partly_masked.masks.to_rle(HEIGHT, WIDTH)
    found.check_values(num_classes=3)


def test_labels_follow_the_table_that_is_given(found):
    turned = Categories((40, 7, 9), ("traffic sign", "person", "car"))
    np.testing.assert_array_equal(answered(found).to_instances(turned).labels, [0, 1, 2])
    with pytest.raises(InputError, match="categories: expected those of the service; no class there has the id 9"):
        answered(found).to_instances(Categories((7, 40), ("person", "traffic sign")))


@pytest.mark.parametrize("masks", ["none", "polygon"])
def test_instances_of_other_spellings_of_masks(found, masks):
    instances = answered(found, masks).to_instances(CATEGORIES)
    if masks == "none":
        assert instances.masks is None
    else:
        assert instances.masks.to_rle(HEIGHT, WIDTH) == found.masks.to_rle(HEIGHT, WIDTH)


def test_detections_hold_what_was_found(partly_masked):
    import supervision

    result = answered(partly_masked)
    detections = result.to_supervision()
    assert isinstance(detections, supervision.Detections)
    assert detections.mask is None
    np.testing.assert_allclose(detections.xyxy, partly_masked.boxes, atol=1e-5)
    np.testing.assert_array_equal(detections.confidence, partly_masked.scores)
    np.testing.assert_array_equal(detections.class_id, [40, 7, 9])
    assert detections.data["class_name"].tolist() == ["traffic sign", "person", "car"]
    scores = [one.mask_score for one in result.instances]
    np.testing.assert_allclose(detections.data["mask_score"], [scores[0], 0.5, scores[2]])
    sure = detections[detections.confidence > 0.3]
    assert sure.data["class_name"].tolist() == ["traffic sign", "person"]


@pytest.mark.parametrize("masks", [True, "compact"])
@pytest.mark.parametrize("spelling", ["rle", "polygon"])
def test_masks_of_detections_are_those_that_pycocotools_decodes(partly_masked, masks, spelling):
    expected = decoded(answered(partly_masked))
    assert expected[0].sum() > 20 * 20 / 2  # it reaches beyond the instance's own box
    detections = answered(partly_masked, spelling).to_supervision(masks=masks)
    np.testing.assert_array_equal(np.asarray(detections.mask), expected)
    assert np.asarray(detections.mask).dtype == np.bool_
    np.testing.assert_array_equal(detections[[2, 0]].area, expected[[2, 0]].sum(axis=(1, 2)))


@pytest.mark.parametrize("masks", [True, "compact"])
def test_supervision_draws_them(found, masks):
    import supervision

    result = answered(found)
    scene = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    annotator = supervision.MaskAnnotator(color=supervision.Color.WHITE, opacity=1.0)
    drawn = annotator.annotate(scene.copy(), result.to_supervision(masks=masks))
    np.testing.assert_array_equal(drawn.any(axis=2), decoded(result).any(axis=0))


@pytest.mark.parametrize("masks", [False, True, "compact"])
def test_nothing_found_is_no_detections(masks):
    detections = answered(Instances.empty(mask_size=14)).to_supervision(masks=masks)
    assert len(detections) == 0
    assert detections.xyxy.shape == (0, 4)
    assert masks is False or detections.mask.shape == (0, HEIGHT, WIDTH)
    assert len(detections[detections.confidence > 0.5]) == 0


@pytest.mark.parametrize("masks", [False, True, "compact"])
def test_detections_of_several_results_can_be_joined(found, partly_masked, masks):
    import supervision

    parts = [answered(one).to_supervision(masks=masks) for one in (found, Instances.empty(mask_size=14), partly_masked)]
    joined = supervision.Detections.merge(parts)
    assert len(joined) == 6
    assert joined.data["class_name"].tolist() == ["traffic sign", "person", "car"] * 2
    if masks:
        expected = np.concatenate([decoded(answered(found)), decoded(answered(partly_masked))])
        np.testing.assert_array_equal(np.asarray(joined.mask), expected)


def test_where_supervision_is_missing_the_error_says_how_to_get_it(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match=r"pip install 'tis-ray\[supervision\]'"):
        answered(found).to_supervision()


def test_a_misspelt_form_of_masks_is_refused(found):
    with pytest.raises(InputError, match="masks: expected True, False or 'compact'; got 'rle'"):
        answered(found).to_supervision(masks="rle")


def test_a_result_is_drawn_over_its_picture(found):
    picture = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    drawn = np.asarray(answered(found).overlay(picture, score_threshold=0.6))[:HEIGHT]
    masks = decoded(answered(found))
    assert drawn[masks[0]].any()
    assert not drawn[masks[1] & ~masks[0]].any()  # of score 0.5
