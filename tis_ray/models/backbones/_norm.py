"""Other normalisation in the place of a network's batch normalisation."""

from typing import Literal

from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from tis_ray.models.norm import num_groups

Norm = Literal["batch", "frozen", "group"]


def replace_norm(module: nn.Module, norm: Norm) -> None:
    """Replace every `BatchNorm2d` inside `module`, in place.

    frozen: what batch normalisation computes in evaluation, its statistics, scales and shifts being constants
    group:  group normalisation (Wu and He 2018) of 32 groups, or fewer where the channels do not divide
    """
    if norm == "batch":
        return
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _frozen(child) if norm == "frozen" else _group(child))
        else:
            replace_norm(child, norm)


def _frozen(old: nn.BatchNorm2d) -> nn.Module:
    if hasattr(old, "act"):
        from timm.layers import FrozenBatchNormAct2d  # here, since only timm's networks need it

        frozen = _with_activation(FrozenBatchNormAct2d(old.num_features, eps=old.eps), old)
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
