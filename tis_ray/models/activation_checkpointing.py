"""Activation checkpointing (Chen et al. 2016): memory for one more forward pass.

Training keeps only what goes into the stem, each block of the backbone, be it in a head now, and the neck, and computes
their insides again in the backward pass. Frames of 3384 px then fit where they did not; the gradients are the same.

A module to be recomputed gets a subclass of its own class made for it: its parameters and buffers keep their names,
copies of it are recomputed too, and so are several workers' under `DistributedDataParallel`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tis_ray.models.backbones._features import Features, Stage

_CONTAINERS = (nn.Sequential, nn.ModuleDict, nn.ModuleList)


def checkpoint_activations(detector: nn.Module) -> None:
    """Recompute the stem, the blocks and the neck of `detector` in backward passes from now on; changes it in place.

    Evaluation, and training without gradients, go on as before. Batch normalisation counts each batch once, and
    random numbers are drawn once: a recomputation sees the same ones.
    """
    stages = [module for module in detector.modules() if isinstance(module, Stage)]  # taken from it to be a head
    for part in (detector.backbone, *stages):
        for block in _blocks(part):
            _recompute(block, "forward")
    if isinstance(detector.backbone, Features):
        _recompute(detector.backbone, "stem")
    _recompute(detector.neck, "forward")


def _blocks(module: nn.Module, *, in_container: bool = False) -> Iterator[nn.Module]:
    """The outermost modules made of several ones that stand in a container: residual blocks, units, stages."""
    for child in module.children():
        container = isinstance(child, _CONTAINERS)
        if in_container and not container and any(True for _ in child.children()):
            yield child
        else:
            yield from _blocks(child, in_container=in_container or container)


def _recompute(module: nn.Module, method: str) -> None:
    module.__class__ = _recomputed(type(module), method)


@cache
def _recomputed(base: type[nn.Module], method: str) -> type[nn.Module]:
    """A subclass of `base` that forgets in training what `method` computed on its way to its result."""
    original = getattr(base, method)

    def call(self: nn.Module, *inputs: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return original(self, *inputs)
        contexts = partial(_contexts, self)
        return checkpoint(partial(original, self), *inputs, use_reentrant=False, context_fn=contexts)

    return type(f"Recomputed{base.__name__}", (base,), {method: call, "__doc__": base.__doc__})


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _buffers_kept(module)


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """The module works on copies of its buffers: a second look at a batch leaves the running statistics alone."""
    kept = [(part, name, buffer) for part in module.modules() for name, buffer in part.named_buffers(recurse=False)]
    for part, name, buffer in kept:
        setattr(part, name, buffer.clone())
    try:
        yield
    finally:
        for part, name, buffer in kept:
            setattr(part, name, buffer)
