"""Other normalisation in the place of a network's batch normalisation."""

from typing import Literal

from torch import Tensor, nn

from tis_ray.config import Norm as LearningNorm
from tis_ray.models.norm import FrozenBatchNorm2d, SyncBatchNorm2d, num_groups

Norm = Literal[LearningNorm, "frozen"]


def replace_norm(module: nn.Module, norm: Norm) -> None:
    """Replace every `BatchNorm2d` inside `module`, in place.

    sync:   batch normalisation over the batches of all workers of a run, see `SyncBatchNorm2d`
    frozen: what batch normalisation computes in evaluation, its statistics, scales and shifts being constants
    group:  group normalisation (Wu and He 2018) of 32 groups, or fewer where the channels do not divide
    """
    if norm == "batch":
        return
    replacement = {"sync": _sync, "group": _group, "frozen": _frozen}[norm]
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, replacement(child))
        else:
            replace_norm(child, norm)


def _sync(old: nn.BatchNorm2d) -> nn.Module:
    if hasattr(old, "act"):
        new = _with_activation(_SyncBatchNormAct2d(old.num_features, eps=old.eps, momentum=old.momentum), old)
    else:
        new = SyncBatchNorm2d(old.num_features, eps=old.eps, momentum=old.momentum)
    new.load_state_dict(old.state_dict())
    return new


def _frozen(old: nn.BatchNorm2d) -> nn.Module:
    if hasattr(old, "act"):
        frozen = _with_activation(_FrozenBatchNormAct2d(old.num_features, eps=old.eps), old)
    else:
        frozen = FrozenBatchNorm2d(old.num_features, eps=old.eps)
    frozen.load_state_dict({k: v for k, v in old.state_dict().items() if k != "num_batches_tracked"})
    return frozen


def _group(old: nn.BatchNorm2d) -> nn.Module:
    groups = num_groups(old.num_features)
    if hasattr(old, "act"):
        from timm.layers import GroupNormAct

        return _with_activation(GroupNormAct(old.num_features, groups), old)
    return nn.GroupNorm(groups, old.num_features)


def _with_activation(new: nn.Module, old: nn.Module) -> nn.Module:
    """timm's batch normalisation holds the activation that follows it; the replacement takes it over."""
    new.drop, new.act = old.drop, old.act
    return new


class _Activated(nn.Module):
    """With the activation that follows it, as timm's `BatchNormAct2d` has it."""

    def forward(self, values: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(values)))


class _SyncBatchNormAct2d(_Activated, SyncBatchNorm2d):
    """timm's own of several workers needs a GPU."""


class _FrozenBatchNormAct2d(_Activated, FrozenBatchNorm2d):
    """timm's own makes float32 of bfloat16."""
