"""Classes that nobody looked for in an image: they reach the classifier with the image's regions."""

import numpy as np
import pytest
import torch

from tests.tiny import CATEGORIES, TINY_DETECTOR
from tis_ray.config import DetectorSection, parse
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks
from tis_ray.models.assembly import build_detector
from tis_ray.models.detector import Detector
from tis_ray.models.targets import Target, to_targets

SIZE = (64, 96)
CPU = torch.device("cpu")
NOBODY, EVERYBODY = np.ones(len(CATEGORIES), np.bool_), np.zeros(len(CATEGORIES), np.bool_)


def annotations(unverified: np.ndarray | None, *, objects: int = 0) -> Annotations:
    masks = CropMasks(np.zeros((objects, 2), np.int32), (np.ones(SIZE, np.uint8),) * objects)
    boxes = np.tile(np.array([[10, 10, 50, 50]], np.float32), (objects, 1))
    labels, crowd = np.zeros(objects, np.int32), np.zeros(objects, np.bool_)
    return Annotations(boxes, labels, masks, crowd, unverified=unverified)


def targets(*parts: Annotations) -> list[Target]:
    return to_targets(parts, [SIZE] * len(parts), CPU)


def detector(negatives: str, **box: object) -> Detector:
    torch.manual_seed(0)
    classification = {"eql": {"negatives": negatives, "tail_share": 0}}
    content = {**TINY_DETECTOR, "box": {**TINY_DETECTOR["box"], "classification": classification, **box}}
    return build_detector(parse(DetectorSection, content, source="test"), CATEGORIES).train()


def losses(model: Detector, batch: list[Target]) -> dict[str, float]:
    torch.manual_seed(1)
    images = torch.randn((len(batch), 3, *SIZE), generator=torch.Generator().manual_seed(2))
    return {name: loss.item() for name, loss in model(list(images), batch).items()}


def test_targets_hold_them_and_none_where_all_was_verified() -> None:
    known, unknown = targets(annotations(None), annotations(NOBODY))
    assert known["unverified"] is None
    assert unknown["unverified"].tolist() == NOBODY.tolist()


@pytest.mark.parametrize("cascade", [False, True])
def test_background_of_an_image_says_nothing_of_what_nobody_looked_for(cascade: bool) -> None:
    """Half of the regions are of an image of which nothing is known: they count, and teach nothing."""
    model = detector("verified", **({"cascade": {}} if cascade else {}))
    whole = losses(model, targets(annotations(None), annotations(None)))
    first = losses(model, targets(annotations(NOBODY), annotations(None)))
    second = losses(model, targets(annotations(None), annotations(NOBODY)))
    neither = losses(model, targets(annotations(NOBODY), annotations(NOBODY)))
    for name in [name for name in whole if name.startswith("loss_classifier")]:
        assert first[name] > 0
        assert first[name] + second[name] == pytest.approx(whole[name])
        assert neither[name] == 0


def test_where_all_was_verified_the_rule_changes_nothing() -> None:
    batch = targets(annotations(EVERYBODY, objects=1), annotations(None, objects=1))
    expected = losses(detector("all"), targets(annotations(None, objects=1), annotations(None, objects=1)))
    assert losses(detector("verified"), batch) == expected
    assert losses(detector("all"), targets(*[annotations(NOBODY, objects=1)] * 2)) == expected


def test_an_object_is_learnt_though_nobody_looked_for_others() -> None:
    found = losses(detector("verified"), targets(annotations(NOBODY, objects=1)))
    assert found["loss_classifier"] > 0
