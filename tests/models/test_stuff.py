"""The branch that learns stuff, against its parts written out, and in a detector."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.host_waits import host_waits
from tests.tiny import CATEGORIES, TINY_DETECTOR, tiny_recipe
from tis_ray.config import DetectorSection
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks
from tis_ray.models import checkpoint
from tis_ray.models.assembly import build_detector
from tis_ray.models.detector import Detector
from tis_ray.models.stuff import StuffBranch
from tis_ray.models.targets import Target, to_targets
from tis_ray.models.transfer import transfer

STRIDES = (4, 8, 16, 32)
CLASSES = 5


def branch_of(strides: tuple[int, ...] = STRIDES, **options: object) -> StuffBranch:
    torch.manual_seed(0)
    return StuffBranch(6, strides, **{"num_classes": CLASSES, "convs": 2, "channels": 7, "weight": 0.2} | options)


def features_of(size_hw: tuple[int, int], strides: tuple[int, ...] = STRIDES, images: int = 2) -> dict[str, Tensor]:
    height, width = size_hw
    levels = {str(i): torch.randn(images, 6, height // s, width // s) for i, s in enumerate(strides)}
    return levels | {"pool": torch.randn(images, 6, 1, 1)}


def labels_of(size_hw: tuple[int, int], seed: int = 0) -> Tensor:
    return torch.randint(0, CLASSES, size_hw, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def test_the_loss_is_the_mean_cross_entropy_of_known_places_times_its_weight() -> None:
    branch, features = branch_of(), features_of((64, 96))
    maps = [labels_of((64, 96)), labels_of((40, 70), seed=1)]
    maps[0][:20] = 255
    logits = branch.predict(features)
    assert logits.shape == (2, CLASSES, 8, 12)
    terms = []
    for image, labels in enumerate(maps):
        for i in range(8):
            for j in range(12):
                y, x = 8 * i + 4, 8 * j + 4  # the middle of the place; beyond the second image there is nothing
                if y < labels.shape[0] and x < labels.shape[1] and labels[y, x] != 255:
                    terms.append(-logits[image, :, i, j].log_softmax(0)[int(labels[y, x])])
    assert 100 < len(terms) < 2 * 96
    (name, loss), *rest = branch(features, maps).items()
    assert (name, rest) == ("loss_stuff", [])
    torch.testing.assert_close(loss, 0.2 * torch.stack(terms).mean())


def test_levels_are_brought_to_stride_8_and_added() -> None:
    """A level that is twice as fine is halved by the mean of 2x2, a coarse constant stays what it is."""
    branch = branch_of(convs=1, channels=6)
    with torch.no_grad():
        for lateral in branch.laterals:
            lateral.weight.copy_(torch.eye(6)[:, :, None, None])
        branch.convs[0].weight.zero_()
        branch.convs[0].weight[:, :, 1, 1] = torch.eye(6)
        branch.logits.weight.copy_(torch.eye(6)[:CLASSES, :, None, None])
    features = features_of((64, 64), images=1)
    features["0"] = features["0"].abs()
    features["1"] = features["1"].abs()
    features["2"], features["3"] = torch.full((1, 6, 4, 4), 2.0), torch.full((1, 6, 2, 2), 0.5)
    halved = features["0"].unflatten(2, (8, 2)).unflatten(4, (8, 2)).mean((3, 5))
    torch.testing.assert_close(branch.predict(features), (halved + features["1"] + 2.5)[:, :CLASSES])


def test_without_any_truth_the_loss_is_0_and_reaches_every_weight() -> None:
    branch = branch_of()
    for maps in ([None, None], [None, torch.full((64, 96), 255, dtype=torch.uint8)]):
        branch.zero_grad()
        loss = branch(features_of((64, 96)), maps)["loss_stuff"]
        loss.backward()
        assert loss == 0
        assert all(torch.equal(one.grad, torch.zeros_like(one)) for one in branch.parameters())


def test_an_image_without_truth_leaves_the_loss_of_the_others() -> None:
    branch, features, labels = branch_of(), features_of((64, 96)), labels_of((64, 96))
    alone = {name: level[:1] for name, level in features.items()}
    torch.testing.assert_close(branch(features, [labels, None]), branch(alone, [labels]))


@pytest.mark.parametrize(("strides", "stride"), [((16,), 16), ((4, 8), 8), ((8, 16, 32), 8), ((4, 16), 4)])
def test_labels_are_of_stride_8_or_of_the_finest_level(strides: tuple[int, ...], stride: int) -> None:
    branch = branch_of(strides)
    features = features_of((64, 96), strides)
    assert branch.predict(features).shape[-2:] == (64 // stride, 96 // stride)
    branch(features, [labels_of((64, 96)), None])["loss_stuff"].backward()
    assert all(one.grad.abs().sum() > 0 for one in branch.parameters())


def test_the_loss_is_float32_in_mixed_precision_and_waits_for_nothing() -> None:
    branch, features, maps = branch_of(), features_of((64, 96)), [labels_of((64, 96)), None]
    with torch.autocast("cpu", dtype=torch.bfloat16), host_waits() as waits:
        assert branch.predict(features).dtype == torch.bfloat16
        loss = branch(features, maps)["loss_stuff"]
        loss.backward()
    assert loss.dtype == torch.float32
    assert not waits
    torch.testing.assert_close(loss, branch(features, maps)["loss_stuff"], rtol=0.02, atol=0)


# -------------------------------------------------------------------------------------------------- Detector


SECTION = DetectorSection.model_validate({**TINY_DETECTOR, "stuff": {"num_classes": CLASSES, "channels": 8}})
SIZE_HW = (64, 90)


def detector_of(section: DetectorSection = SECTION) -> Detector:
    torch.manual_seed(0)
    return build_detector(section, CATEGORIES)


def target(stuff: Tensor | None) -> Target:
    boxes = np.array([[10, 10, 40, 30]], np.float32)
    masks = CropMasks(boxes[:, :2].astype(np.int32), (np.ones((20, 30), np.uint8),))
    truth = None if stuff is None else stuff.numpy()[:, ::-1]  # as a mirrored sample has it
    annotations = Annotations(boxes, np.zeros(1, np.int32), masks, np.zeros(1, np.bool_), truth)
    return to_targets([annotations], [SIZE_HW], torch.device("cpu"))[0]


def pictures() -> list[Tensor]:
    return [torch.randint(0, 256, (3, *SIZE_HW), dtype=torch.uint8) for _ in range(2)]


def test_a_target_has_the_map_of_its_image() -> None:
    labels = labels_of(SIZE_HW)
    assert torch.equal(target(labels)["stuff"], labels.flip(1))
    assert target(None)["stuff"] is None


@pytest.mark.parametrize("known", [True, False])
def test_a_detector_learns_it_in_every_weight(known: bool) -> None:
    detector = detector_of().train()
    losses = detector(pictures(), [target(labels_of(SIZE_HW) if known else None), target(None)])
    assert (losses["loss_stuff"] > 0) == known
    torch.stack(list(losses.values())).sum().backward()
    assert all(one.grad is not None for one in detector.parameters())
    learnt = {name for name, one in detector.stuff.named_parameters() if one.grad.abs().sum() > 0}
    assert (len(learnt) > 0) == known


def test_it_teaches_the_pyramid_and_leaves_other_losses_alone() -> None:
    images, targets = pictures(), [target(labels_of(SIZE_HW)), target(None)]
    detector = detector_of().train()
    torch.manual_seed(1)
    losses = detector(images, targets)
    losses["loss_stuff"].backward()
    assert all(one.grad.abs().sum() > 0 for one in detector.neck.pyramid.inner_blocks.parameters())
    plain = detector_of(SECTION.model_copy(update={"stuff": None})).train()
    torch.manual_seed(1)
    torch.testing.assert_close(plain(images, targets), {k: v for k, v in losses.items() if k != "loss_stuff"})


def test_nothing_of_it_is_computed_when_testing(monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: object) -> None:
        raise AssertionError

    detector, images = detector_of().eval(), pictures()
    plain = detector_of(SECTION.model_copy(update={"stuff": None})).eval()
    monkeypatch.setattr(detector.stuff, "forward", unwanted)
    with torch.inference_mode():
        for found, other in zip(detector(images), plain(images), strict=True):
            assert torch.equal(found.boxes, other.boxes)
            assert torch.equal(found.mask_probs, other.mask_probs)


def test_a_neck_of_one_level_has_labels_of_its_stride() -> None:
    c4 = {
        "backbone": "resnet18",
        "neck": "c4",
        "anchors": {"exact": {"sizes": [[16, 32]]}},
        "box": {"head": "average", "pool_size": 6},
        "mask": None,
        "stuff": {"num_classes": CLASSES, "channels": 8},
    }
    detector = detector_of(DetectorSection.model_validate(c4)).train()
    assert detector.stuff.stride == 16
    losses = detector(pictures(), [target(labels_of(SIZE_HW))] * 2)
    assert losses["loss_stuff"] > 0


def test_a_checkpoint_keeps_the_branch(tmp_path) -> None:
    recipe = tiny_recipe(detector=SECTION.model_dump())
    detector = detector_of()
    checkpoint.save(tmp_path / "one", detector=detector, recipe=recipe, categories=CATEGORIES, metrics={})
    loaded, _, _ = checkpoint.load(tmp_path / "one")
    assert torch.equal(loaded.stuff.logits.weight, detector.stuff.logits.weight)


def test_its_labels_are_no_classes_of_the_detector() -> None:
    """A detector of other classes begins with all of the branch, one of other labels with all but the last layer."""
    ours, theirs = detector_of(), detector_of()
    with torch.no_grad():
        for weight in theirs.stuff.parameters():
            weight.add_(1)
    taken = transfer(ours, CATEGORIES, source=theirs, source_categories=CATEGORIES, names={"car": None})
    assert not any(name.startswith("stuff") for name in taken.kept)
    assert torch.equal(ours.stuff.logits.weight, theirs.stuff.logits.weight)
    more = detector_of(SECTION.model_copy(update={"stuff": SECTION.stuff.model_copy(update={"num_classes": 9})}))
    taken = transfer(more, CATEGORIES, source=theirs, source_categories=CATEGORIES, names={})
    assert [name for name in taken.kept if name.startswith("stuff")] == ["stuff.logits"]
