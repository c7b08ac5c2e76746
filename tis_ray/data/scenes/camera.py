"""The pinhole camera behind the windscreen: street metres to pixels.

Street frame: X right, Y up from the road, Z forward, in metres; the camera stands at (0, height, 0) and looks
along Z. Pixels are continuous: the centre of the top-left pixel is (0.5, 0.5).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (N, 3) X, Y, Z in metres


@dataclass(frozen=True, slots=True)
class Camera:
    """`horizon_px` is the row of the vanishing point, `centre_px` its column."""

    size_wh: tuple[int, int]
    focal_px: float
    centre_px: float
    horizon_px: float
    height_m: float

    @staticmethod
    def draw(rng: np.random.Generator, size_wh: tuple[int, int]) -> "Camera":
        """A camera with a little variation of height, pitch, yaw and zoom; the zoom follows the frame's area."""
        width, height = size_wh
        return Camera(
            size_wh,
            focal_px=rng.uniform(1.0, 1.16) * np.sqrt(width * height * 4 / 3),
            centre_px=width * rng.uniform(0.42, 0.58),
            horizon_px=height * rng.uniform(0.4, 0.52),
            height_m=rng.uniform(1.35, 2.0),
        )

    def project(self, points: Points) -> NDArray[np.float64]:
        """Pixel x, y (N, 2) of street points in front of the camera (Z > 0)."""
        scale = self.focal_px / points[:, 2]
        x = self.centre_px + points[:, 0] * scale
        y = self.horizon_px + (self.height_m - points[:, 1]) * scale
        return np.stack([x, y], axis=1)

    def ground(self, x: float, z: float) -> tuple[float, float]:
        """Pixel of the road point (x, z)."""
        scale = self.focal_px / z
        return self.centre_px + x * scale, self.horizon_px + self.height_m * scale
