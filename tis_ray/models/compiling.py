"""Compiled backbones and necks: a graph for each size of batch, in training made when it comes for the first time and
in testing ahead of all requests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from tis_ray.errors import ConfigError
from tis_ray.models.detector import SIZE_DIVISOR, Detector
from tis_ray.models.pyramid_align import Features

MOST_SIZES = 256  # of batches; PyTorch gives up compiling at 8


def compile_features(detector: Detector, *, backend: str = "inductor") -> None:
    """Compile backbone and neck of `detector` for training; changes it in place. Weights keep their names.

    Sizes are constants of a graph: kernels are faster for it, and few sizes (`Detector.size_bucket_px`) save minutes.
    Evaluation goes on as before. Call it last, copies of a compiled detector would run the original's weights.
    """
    _allow_many_sizes()
    detector.compiled = torch.compile(detector.features, dynamic=False, backend=backend)


class FeatureGraphs:
    """Backbone and neck of a detector in testing, whose batches are padded to multiples of `bucket_px`.

    A size of batch has a graph if it was seen inside `being_made`; any other is computed without one, however often it
    comes, so that nobody waits for a compiler. Like `compile_features`, for detectors that are not copied any more.
    """

    def __init__(self, detector: Detector, *, bucket_px: int = SIZE_DIVISOR, backend: str = "inductor") -> None:
        _allow_many_sizes()
        self.bucket_px = bucket_px
        self.sizes: set[tuple[int, ...]] = set()
        self._plain = detector.features
        self._compiled = torch.compile(detector.features, dynamic=False, backend=backend)
        self._making = False

    def __call__(self, pictures: Tensor) -> Features:
        """What `Detector.features` makes of normalised pictures (B, 3, H, W), within rounding."""
        size = tuple(pictures.shape)
        if size in self.sizes:
            with torch.compiler.set_stance("eager_on_recompile"):  # should a graph not fit after all
                features: Features = self._compiled(pictures)
            return features
        if not self._making:
            return self._plain(pictures)
        features = self._made(pictures)
        self.sizes.add(size)
        return features

    @contextmanager
    def being_made(self) -> Iterator[None]:
        """Inside, each size of batch that comes gets its graph; `ConfigError` where the compiler does not work."""
        self._making = True
        try:
            yield
        finally:
            self._making = False

    def _made(self, pictures: Tensor) -> Features:
        try:
            features: Features = self._compiled(pictures)
            return features
        except torch.OutOfMemoryError:  # of the network's own
            raise
        except Exception as error:
            inner = getattr(error, "inner_exception", error)
            reason = f"{type(inner).__name__}: {inner}".splitlines()[0]
            raise ConfigError(
                f"inference.compile: expected a working compiler, Triton for a GPU and C++ for a CPU; got {reason}"
            ) from error


def keep_compiled(folder: Path) -> None:
    """Keep what is compiled from now on, by all of this process, in `folder`, and take from there what it has.

    What it holds is run: nobody else may write there.
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder.absolute())


def _allow_many_sizes() -> None:
    config = torch._dynamo.config
    config.recompile_limit = MOST_SIZES
    config.accumulated_recompile_limit = max(MOST_SIZES, config.accumulated_recompile_limit)
