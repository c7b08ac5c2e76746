"""Which old pixel each new one shows when a label image is resized."""

import numpy as np
from numpy.typing import NDArray


def nearest_sources(old: int, new: int) -> NDArray[np.int64]:
    """For each of `new` pixels along an axis its source among `old`: that at (i + 0.5) * old / new.

    The same as of `torch.nn.functional.interpolate(mode="nearest-exact")`, and like there computed in float32; taking
    the pixel under its corner instead would shift tiny masks against their picture.
    """
    scale = np.float32(old / new)
    source = np.floor((np.arange(new, dtype=np.float32) + np.float32(0.5)) * scale).astype(np.int64)
    return np.asarray(np.minimum(source, old - 1))
