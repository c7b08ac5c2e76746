"""How large the objects were that a detector was trained on, as its checkpoint directory keeps it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tis_ray.errors import CheckpointError, DataError

TRAINING_SIZES = "training_sizes.json"
_KEY = "quantiles"
_STEPS = 100


@dataclass(frozen=True, slots=True)
class TrainingSizes:
    """The distribution of sqrt(box area) in network pixels over the training objects at the training scales.

    quantiles: Q sizes above 0 that do not fall, Q at least 2: the sizes below which 0, 1 / (Q - 1), ... 1 of all lie
    """

    quantiles: tuple[float, ...]

    def __post_init__(self) -> None:
        values = np.array(self.quantiles, dtype=np.float64)
        rising = len(values) >= 2 and bool(np.isfinite(values).all()) and bool((np.diff(values) >= 0).all())
        if not rising or values[0] <= 0:
            raise DataError(
                f"{_KEY}: expected at least 2 finite numbers above 0 that do not fall; got {_shown(values)}"
            )

    @staticmethod
    def of(sizes: NDArray[np.float64]) -> "TrainingSizes":
        """From the sizes (N,) of all objects at all scales, N > 0."""
        return TrainingSizes(tuple(np.quantile(sizes, np.linspace(0, 1, _STEPS + 1)).tolist()))

    def at(self, share: float) -> float:
        """The size below which a `share` of the objects lies, 0..1."""
        return float(np.interp(share, np.linspace(0, 1, len(self.quantiles)), self.quantiles))

    def to_json(self) -> dict[str, Any]:
        """What `read_training_sizes` reads."""
        return {_KEY: list(self.quantiles)}


def read_training_sizes(folder: Path) -> TrainingSizes | None:
    """Those of a checkpoint, or None: imported ones have none, nor those trained before they were kept.

    Raises `CheckpointError` for a file with something else in it.
    """
    path = folder / TRAINING_SIZES
    try:
        content = orjson.loads(path.read_bytes())
        return TrainingSizes(tuple(float(value) for value in content[_KEY]))
    except FileNotFoundError:
        return None
    except DataError as error:
        raise CheckpointError(f"checkpoint {folder}: {TRAINING_SIZES}: {error}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"checkpoint {folder}: {TRAINING_SIZES}: expected JSON with a list of numbers under {_KEY}; "
            f"got others ({error})"
        ) from None


def _shown(values: NDArray[np.float64]) -> str:
    return f"{len(values)} numbers" + (f" from {values[0]:g} to {values[-1]:g}" if len(values) else "")
