"""With the same weights our detector computes what torchvision's Mask R-CNN computes: losses and answers.

The condition is that both see the same network frame. torchvision resizes inside its model, without antialiasing, and
masks with it; its `_skip_resize` and a `min_size` of the picture's own shorter edge leave pictures as they are.
"""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN

from tests.torchvision_twins import FEW, random_image, torchvision_model, twin
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks
from tis_ray.models.detector import Detector
from tis_ray.models.targets import to_targets
from tis_ray.models.torchvision_import import DETECTORS
from tis_ray.models.torchvision_names import from_torchvision

NUM_CLASSES = 5  # with background
BATCHES = [[(97, 67)], [(64, 112), (100, 64)]]
BOXES = ((3, 5, 40, 50), (30, 20, 42, 31), (10, 40, 60, 62), (44, 2, 60, 40))

Twins = tuple[MaskRCNN, Detector]


@pytest.fixture(scope="module", params=DETECTORS)
def built(request: pytest.FixtureRequest) -> tuple[MaskRCNN, Detector, dict[str, Tensor]]:
    theirs = torchvision_model(request.param, NUM_CLASSES, _skip_resize=True, **FEW)
    state = {key: value.clone() for key, value in theirs.state_dict().items()}
    return theirs, twin(request.param, theirs, NUM_CLASSES), state


@pytest.fixture
def twins(built: tuple[MaskRCNN, Detector, dict[str, Tensor]]) -> Twins:
    """With their first weights, since training moves the statistics of batch normalisation."""
    theirs, ours, state = built
    theirs.load_state_dict(state)
    ours.load_state_dict(from_torchvision(state))
    return theirs, ours


def ground_truth(count: int) -> Annotations:
    corners = np.array(BOXES[:count], np.int32).reshape(-1, 4)
    rng = np.random.default_rng(count)
    crops = tuple((rng.random((y2 - y1, x2 - x1)) > 0.4).astype(np.uint8) for x1, y1, x2, y2 in corners)
    masks = CropMasks(corners[:, :2].copy(), crops)
    labels = np.arange(count, dtype=np.int32) % (NUM_CLASSES - 1)
    return Annotations(corners.astype(np.float32), labels, masks, np.zeros(count, bool))


def torchvision_target(annotations: Annotations, size_hw: tuple[int, int]) -> dict[str, Tensor]:
    masks = np.zeros((len(annotations.boxes), *size_hw), np.uint8)
    for mask, crop, (x, y) in zip(masks, annotations.masks.crops, annotations.masks.offsets, strict=True):
        mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return {
        "boxes": torch.from_numpy(annotations.boxes),
        "labels": torch.from_numpy(annotations.labels).long() + 1,
        "masks": torch.from_numpy(masks),
    }


@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_losses_are_torchvisions(twins: Twins, batch: list[tuple[int, int]]) -> None:
    """Both RoI heads get torchvision's proposals: a rounding error may tip the order of nearly equal ones, and with it
    which of them are kept."""
    theirs, ours = twins[0].train(), twins[1].train()
    images = [random_image(*size) for size in batch]
    truth = [ground_truth(4 - i) for i in range(len(batch))]
    their_truth = [torchvision_target(one, size) for one, size in zip(truth, batch, strict=True)]
    our_truth = to_targets(truth, batch, torch.device("cpu"))

    frames, _ = theirs.transform([image / 255 for image in images])
    their_features = theirs.backbone(frames.tensors)
    proposals, expected = theirs.rpn(frames, their_features, their_truth)
    expected |= theirs.roi_heads(their_features, proposals, frames.image_sizes, their_truth)[1]

    our_frames = ours._batch(images)
    our_features = ours.neck(ours.backbone(our_frames.tensors))
    _, found = ours.rpn(our_frames, our_features, our_truth)
    found |= ours.roi_heads(our_features, proposals, our_frames.image_sizes, our_truth)[1]

    assert len(expected) == 5
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-4, rtol=1e-4, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@torch.inference_mode()
def test_answers_are_torchvisions(twins: Twins, batch: list[tuple[int, int]]) -> None:
    theirs, ours = twins
    images = [random_image(*size) for size in batch]
    theirs.transform.min_size = (min(batch[0]),)
    frames, _ = theirs.eval().transform([image / 255 for image in images])
    assert frames.image_sizes == batch
    features = theirs.backbone(frames.tensors)
    proposals, _ = theirs.rpn(frames, features)
    expected, _ = theirs.roi_heads(features, proposals, frames.image_sizes)  # patches, before they are pasted
    for one, wanted in zip(ours.eval()(images), expected, strict=True):
        assert len(one.boxes) >= 5
        assert len(one.labels.unique()) >= 2
        # Sums of fifty layers round differently with the processor's vector width: by 14 float32 steps of 84 px on one.
        torch.testing.assert_close(one.boxes, wanted["boxes"], atol=1e-4, rtol=2e-6)
        torch.testing.assert_close(one.scores, wanted["scores"], atol=1e-4, rtol=0)
        assert torch.equal(one.labels, wanted["labels"])
        torch.testing.assert_close(one.mask_probs, wanted["masks"][:, 0], atol=1e-4, rtol=0)
