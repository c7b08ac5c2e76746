"""Recomputed activations: the same losses, gradients and statistics as kept ones, for far fewer kept bytes."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.tiny import CATEGORIES, TINY_DETECTOR
from tis_ray.config import DetectorSection, parse
from tis_ray.instances import Annotations
from tis_ray.masks import CropMasks
from tis_ray.models.activation_checkpointing import checkpoint_activations
from tis_ray.models.assembly import build_detector
from tis_ray.models.detector import Detector
from tis_ray.models.targets import to_targets

BACKBONES = [
    {"resnet18": {"norm": "batch"}},
    {"resnet18": {"norm": "frozen"}},
    {"resnet18": {"norm": "group", "stem": "deep3"}},
    {"resnet18": {"norm": "sync", "deformable": True}},
    {"shufflenet_v2_x0_5": {}},
    {"tf_efficientnet_lite0": {}},
]
IDS = [" ".join([name, *map(str, options.values())]) for backbone in BACKBONES for name, options in backbone.items()]
HEIGHT, WIDTH = 96, 128


C4 = {
    "neck": "c4",
    "anchors": {"exact": {"sizes": [[8, 16, 32, 64]]}},
    "box": {**TINY_DETECTOR["box"], "head": "average", "pool_size": 8},
    "mask": {"head": {"convs": {"channels": []}}, "pool_size": 8},
}


def pair(backbone: dict, **parts: object) -> tuple[Detector, Detector]:
    """A detector and its twin whose activations are recomputed."""
    torch.manual_seed(0)
    section = {**TINY_DETECTOR, "backbone": backbone, **parts}
    kept = build_detector(parse(DetectorSection, section, source="test"), CATEGORIES)
    recomputed = copy.deepcopy(kept)
    checkpoint_activations(recomputed)
    return kept.train(), recomputed.train()


def total_loss(model: nn.Module, *, seed: int = 1) -> Tensor:
    boxes = np.array([[10, 10, 40, 30], [50, 20, 58, 28]], np.int32)
    crops = tuple(np.ones((y2 - y1, x2 - x1), np.uint8) for x1, y1, x2, y2 in boxes)
    objects = Annotations(
        boxes.astype(np.float32), np.ones(2, np.int32), CropMasks(boxes[:, :2].copy(), crops), np.zeros(2, np.bool_)
    )
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    torch.manual_seed(seed)
    losses = model([image, image.flip(-1)], to_targets([objects] * 2, [(HEIGHT, WIDTH)] * 2, torch.device("cpu")))
    return torch.stack(list(losses.values())).sum()


def assert_same_gradients(one: nn.Module, other: nn.Module) -> None:
    for (name, expected), actual in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, atol=1e-6, rtol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("backbone", "parts"), [*((one, {}) for one in BACKBONES), ({"resnet18": {}}, C4)], ids=[*IDS, "c4"]
)
def test_losses_gradients_and_running_statistics_stay_the_same(backbone: dict, parts: dict) -> None:
    kept, recomputed = pair(backbone, **parts)
    for model in (kept, recomputed):
        for step in range(2):  # the second step sees the statistics that the first has left
            loss = total_loss(model, seed=step)
            loss.backward()
    assert torch.equal(total_loss(kept), total_loss(recomputed))
    assert_same_gradients(kept, recomputed)
    before, after = kept.state_dict(), recomputed.state_dict()
    assert list(before) == list(after)
    for name, value in before.items():
        assert torch.equal(value, after[name]), name


def test_gradients_stay_the_same_under_autocast() -> None:
    kept, recomputed = pair({"resnet18": {"norm": "group"}})
    for model in (kept, recomputed):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = total_loss(model)
        loss.backward()
    assert_same_gradients(kept, recomputed)


def kept_bytes(model: nn.Module) -> int:
    """Bytes that a forward pass keeps for its backward pass, counting at most too many.

    What autograd saves, and what goes into each module that is recomputed: autograd does not see the latter.
    """
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def keep_inputs(_: nn.Module, inputs: tuple) -> None:
        for value in inputs:
            for tensor in value if isinstance(value, list) else [value]:
                held.append(keep(tensor))

    held: list[Tensor] = []
    hooks = [
        module.register_forward_pre_hook(keep_inputs)
        for module in model.modules()
        if type(module).__name__.startswith("Recomputed")
    ]
    weights = {value.untyped_storage().data_ptr() for value in model.state_dict().values()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = total_loss(model)
    for hook in hooks:
        hook.remove()
    del loss
    return sum(size for place, size in seen.items() if place not in weights)


@pytest.mark.parametrize(
    ("backbone", "parts", "share"),
    [
        ({"resnet18": {}}, {}, 0.35),
        ({"resnet18": {"stem": "deep3"}}, {}, 0.3),
        ({"tf_efficientnet_lite0": {}}, {}, 0.35),
        ({"resnet18": {}}, C4, 0.35),
    ],
    ids=["resnet18", "deep stem", "tf_efficientnet_lite0", "a stage that is a head"],
)
def test_far_fewer_bytes_are_kept_for_the_backward_pass(backbone: dict, parts: dict, share: float) -> None:
    kept, recomputed = pair(backbone, **parts)
    assert kept_bytes(recomputed) < share * kept_bytes(kept)


def counted(model: nn.Module, layer: nn.Module, run_it: Callable[[], object]) -> int:
    """How often `layer` is called."""
    calls: list[int] = []
    hook = layer.register_forward_hook(lambda *_: calls.append(1))
    run_it()
    hook.remove()
    return len(calls)


def test_only_a_backward_pass_computes_twice() -> None:
    _, model = pair({"resnet18": {}})
    layer = model.backbone.body.layer2[0].conv1
    image = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    assert counted(model, layer, lambda: total_loss(model).backward()) == 2
    with torch.no_grad():
        assert counted(model, layer, lambda: total_loss(model)) == 1
    assert counted(model.eval(), layer, lambda: model([image])) == 1


def test_copies_are_recomputed_by_themselves() -> None:
    kept, recomputed = pair({"resnet18": {}})
    copied = copy.deepcopy(recomputed)
    total_loss(kept).backward()
    total_loss(copied).backward()
    assert_same_gradients(kept, copied)
    assert all(parameter.grad is None for parameter in recomputed.parameters())


class Dropping(nn.Module):
    """A block in which chance matters, and which holds a module as blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drop = nn.Linear(50, 50), nn.Dropout(0.5)

    def forward(self, values: Tensor) -> Tensor:
        return self.drop(self.linear(values))


def test_a_recomputation_sees_the_same_chance() -> None:
    def part() -> nn.Module:
        model = nn.Module()
        model.backbone, model.neck = nn.Sequential(Dropping(), Dropping()), nn.Identity()
        return model

    torch.manual_seed(0)
    kept = part()
    recomputed = copy.deepcopy(kept)
    checkpoint_activations(recomputed)
    for model in (kept, recomputed):
        torch.manual_seed(1)
        model.neck(model.backbone(torch.ones(3, 50))).square().sum().backward()
    assert_same_gradients(kept, recomputed)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_works_under_distributed_data_parallel(process_group: None) -> None:
    kept, recomputed = pair({"resnet18": {}})
    total_loss(kept).backward()
    total_loss(nn.parallel.DistributedDataParallel(recomputed)).backward()
    assert_same_gradients(kept, recomputed)
