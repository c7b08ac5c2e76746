"""Shared by the backbones built from torchvision networks: feature taps, normalisation and weights from a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d

from tis_ray.errors import CheckpointError

Norm = Literal["batch", "frozen", "group"]


class Features(nn.Module):
    """Four maps of a network: the outputs of its children `taps`, finest first."""

    def __init__(self, network: nn.Module, taps: tuple[str, ...], channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.body = IntermediateLayerGetter(network, {tap: tap for tap in taps})
        self.channels = channels

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images float (B, 3, H, W) to maps (B, C_i, H/s, W/s)."""
        return list(self.body(images).values())


def finished(network: nn.Module, *, norm: Norm, weights: Path | None) -> nn.Module:
    """The network with weights read from `weights`, where given, and its batch normalisation replaced as asked."""
    if weights is not None:
        load_weights(network, weights)
    if norm != "batch":
        _replace_norm(network, norm)
    return network


def load_weights(network: nn.Module, path: Path) -> None:
    """Copy a classification network's weights from a `.safetensors` or `.pth` state dict.

    The classifier may be absent or of another size; anything else that does not fit raises `CheckpointError`.
    """
    state = read_state(path)
    own = network.state_dict()
    head = ("fc.", "classifier.")
    state = {key: value for key, value in state.items() if key in own or not key.startswith(head)}
    wrong = [
        f"{key}: expected {_shape(own, key)}, got {_shape(state, key)}"
        for key in sorted(own.keys() | state.keys())
        if not key.startswith(head)
        and not key.endswith("num_batches_tracked")
        and _shape(own, key) != _shape(state, key)
    ]
    if wrong:
        raise CheckpointError(f"{path}: {len(wrong)} weights do not fit {type(network).__name__}; first {wrong[0]}")
    network.load_state_dict({k: v for k, v in state.items() if _shape(own, k) == _shape(state, k)}, strict=False)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file or of a `.pth` state dict, read without unpickling objects."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return state
    except Exception as error:
        raise CheckpointError(f"weights: expected a readable state dict in {path}; got {error}") from None


def _shape(state: Mapping[str, Tensor], key: str) -> str:
    return str(tuple(state[key].shape)) if key in state else "nothing"


def _replace_norm(module: nn.Module, norm: Norm) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _replacement(child, norm))
        else:
            _replace_norm(child, norm)


def _replacement(old: nn.BatchNorm2d, norm: Norm) -> nn.Module:
    if norm == "group":
        groups = next(g for g in (32, 16, 8, 4, 2, 1) if old.num_features % g == 0)
        return nn.GroupNorm(groups, old.num_features)
    frozen = FrozenBatchNorm2d(old.num_features, eps=old.eps)
    frozen.load_state_dict({k: v for k, v in old.state_dict().items() if k != "num_batches_tracked"})
    return frozen
