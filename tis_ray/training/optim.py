"""SGD over a detector's trainable parameters."""

from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from tis_ray.errors import ConfigError


def build_optimizer(
    model: nn.Module, *, lr: float, momentum: float, weight_decay: float, fused: bool = False
) -> Optimizer:
    """SGD with momentum; weights decay, biases and the scales of normalisation layers (vectors) do not.

    Decaying a bias or a scale regularises nothing and shifts the activations, so both stay free, as in
    Bag of Tricks (He et al., 2019); torchvision's reference recipes decay them all by default. Frozen parameters
    are left out. `fused` updates all of them in few kernels of a GPU. Raises `ConfigError` where nothing is trainable.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ConfigError(
            "schedule.frozen: expected at least one trainable parameter of the detector; all of them are frozen"
        )
    groups = [
        {"params": [p for p in trainable if _decays(p)], "weight_decay": weight_decay},
        {"params": [p for p in trainable if not _decays(p)], "weight_decay": 0.0},
    ]
    return SGD([group for group in groups if group["params"]], lr=lr, momentum=momentum, fused=fused or None)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Use `lr` for the steps to come."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def restore(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Go on from the state of an optimiser of the same parameters, which may have been on another kind of device."""
    fused = [group["fused"] for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, fused, strict=True):
        group["fused"] = own


def _decays(parameter: Tensor) -> bool:
    return parameter.ndim > 1
