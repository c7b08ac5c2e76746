"""Frozen parts learn nothing, keep their statistics, and let the others learn as they would beside them."""

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn

from tests.tiny import CATEGORIES, TINY_DETECTOR
from tis_ray.config import DetectorSection, parse
from tis_ray.errors import ConfigError
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks
from tis_ray.models.activation_checkpointing import checkpoint_activations
from tis_ray.models.assembly import build_detector
from tis_ray.models.detector import Detector
from tis_ray.models.freezing import freeze
from tis_ray.models.targets import to_targets
from tis_ray.training.optim import build_optimizer

pytestmark = pytest.mark.filterwarnings("ignore:Grad strides do not match bucket view strides")  # of 1x1 convolutions
HEIGHT, WIDTH = 64, 96
STAGE_TWO = ("backbone", "neck", "rpn")


def detector(**parts: object) -> Detector:
    torch.manual_seed(0)
    section = {**TINY_DETECTOR, "backbone": {"resnet18": {"norm": "batch"}}, **parts}
    return build_detector(parse(DetectorSection, section, source="test"), CATEGORIES)


def losses_of(model: nn.Module, *, seed: int = 1) -> dict[str, Tensor]:
    boxes = np.array([[10, 10, 40, 30], [50, 20, 58, 28]], np.int32)
    crops = tuple(np.ones((y2 - y1, x2 - x1), np.uint8) for x1, y1, x2, y2 in boxes)
    objects = Annotations(
        boxes.astype(np.float32), np.ones(2, np.int32), CropMasks(boxes[:, :2].copy(), crops), np.zeros(2, np.bool_)
    )
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    torch.manual_seed(seed)
    return model([image, image.flip(-1)], to_targets([objects] * 2, [(HEIGHT, WIDTH)] * 2, torch.device("cpu")))


def step(model: nn.Module, **options: float) -> None:
    optimizer = build_optimizer(model, lr=0.01, momentum=0.9, weight_decay=1e-4)
    torch.stack(list(losses_of(model).values())).sum().backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("frozen", "still", "learn"),
    [
        (STAGE_TWO, ("backbone.", "neck.", "rpn."), ("roi_heads.stages.", "roi_heads.mask_branch.")),
        (("rpn",), ("rpn.",), ("backbone.", "neck.", "roi_heads.")),
        (("box",), ("roi_heads.stages.",), ("backbone.", "rpn.", "roi_heads.mask_branch.")),
        (("backbone", "mask"), ("backbone.", "roi_heads.mask_branch."), ("neck.", "rpn.", "roi_heads.stages.")),
    ],
    ids=" ".join,
)
def test_weights_and_statistics_of_frozen_parts_stay_and_others_move(frozen, still, learn):
    model = detector(box=TINY_DETECTOR["box"] | {"head": {"convs": {"channels": [16], "hidden": 32, "norm": "batch"}}})
    freeze(model, frozen)
    before = copy.deepcopy(model.state_dict())
    model.eval().train()
    step(model)
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert not {key for key in changed if key.startswith(still)}
    for part in learn:
        assert {key for key in changed if key.startswith(part)}, part


def test_a_frozen_proposal_network_proposes_as_in_training_and_has_no_losses():
    model = detector(rpn=TINY_DETECTOR["rpn"] | {"post_nms_top_n_train": 7, "post_nms_top_n_test": 3})
    with torch.no_grad():
        looked = model.train().look([torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)])
        expected, _ = model.rpn(*looked, [to_targets_of_nothing()])
        freeze(model, ["rpn"])
        found, losses = model.train().rpn(*looked, [to_targets_of_nothing()])
        tested, _ = model.eval().rpn(*looked)
    assert losses == {}
    assert torch.equal(found[0], expected[0])
    assert (len(found[0]), len(tested[0])) == (7, 3)
    assert {"loss_objectness", "loss_rpn_box_reg"}.isdisjoint(losses_of(model.train()))


def to_targets_of_nothing():
    nothing = Annotations(
        np.zeros((0, 4), np.float32), np.zeros(0, np.int32), CropMasks.from_rle([]), np.zeros(0, np.bool_)
    )
    return to_targets([nothing], [(HEIGHT, WIDTH)], torch.device("cpu"))[0]


def test_features_of_a_frozen_first_stage_need_no_graph():
    model = detector()
    freeze(model, STAGE_TWO)
    features = model.train().look([torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)]).features
    assert not any(level.requires_grad for level in features.values())


def test_a_copy_is_frozen_too_and_names_stay():
    model = detector()
    names = list(model.state_dict())
    freeze(model, STAGE_TWO)
    twin = copy.deepcopy(model).train()
    assert list(twin.state_dict()) == names
    assert not any(module.training for part in (twin.backbone, twin.neck, twin.rpn) for module in part.modules())
    assert twin.roi_heads.training


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("frozen", [STAGE_TWO, ("backbone",), ("rpn",)], ids=" ".join)
@pytest.mark.parametrize("recompute", [False, True])
def test_several_workers_reduce_the_gradients_there_are(alone, frozen, recompute):
    """Two steps: DistributedDataParallel complains of missing gradients at the second."""
    model = detector()
    freeze(model, frozen)
    if recompute:
        checkpoint_activations(model)
    shared = nn.parallel.DistributedDataParallel(model).train()
    for _ in range(2):
        step(shared)


def test_what_cannot_be_frozen_is_told():
    with pytest.raises(ConfigError, match=r"^schedule\.frozen: .* got mask, and it has no mask section"):
        freeze(detector(mask=None), ["mask"])
    model = detector()
    freeze(model, ["backbone", "neck", "rpn", "box", "mask"])
    with pytest.raises(ConfigError, match=r"^schedule\.frozen: expected at least one trainable"):
        build_optimizer(model, lr=0.1, momentum=0.9, weight_decay=0)
