"""What N masks are indexed with: whatever picks rows of an array."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

Index = NDArray[Any] | slice | Sequence[int]
