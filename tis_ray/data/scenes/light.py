"""Daylight: sky colours, sun and shade, and haze that swallows what is far."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Colours = NDArray[np.float64]  # (N, 3) in 0..255


@dataclass(frozen=True, slots=True)
class Light:
    """One moment's light; `sun` is the unit vector towards the sun, `tint` multiplies red, green and blue."""

    name: str
    sky_top: Colour
    sky_low: Colour
    haze: Colour
    haze_m: float
    ambient: float
    sun: tuple[float, float, float]
    tint: tuple[float, float, float]
    lamps: bool

    @staticmethod
    def draw(rng: np.random.Generator) -> "Light":
        """Day, overcast or dusk, each with its own spread."""
        name = str(rng.choice(["day", "overcast", "dusk"], p=[0.52, 0.32, 0.16]))
        azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.1)
        sun = (np.cos(height) * np.cos(azimuth), np.sin(height), np.cos(height) * np.sin(azimuth))
        jitter = rng.uniform(0.94, 1.06, 3)
        sky_top, sky_low, haze, haze_m, ambient, exposure, warm = _MOMENTS[name]
        strength = exposure * rng.uniform(0.88, 1.12)
        tint = tuple(float(c * strength * j) for c, j in zip(warm, jitter, strict=True))
        reach = haze_m * float(np.exp(rng.uniform(-0.5, 0.7)))
        return Light(name, sky_top, sky_low, haze, reach, ambient, sun, tint, name == "dusk")  # type: ignore[arg-type]

    def shade(self, colours: Colours, normals: Colours, depth_m: float | Colours) -> NDArray[np.uint8]:
        """Colours (N, 3) of faces with unit `normals` (N, 3), lit and seen through the haze."""
        facing = np.clip(normals @ np.array(self.sun), 0, 1)
        strength = self.ambient + (1 - self.ambient) * 1.25 * facing + 0.08 * normals[:, 1]
        return self.veil(colours * strength[:, None] * np.array(self.tint), depth_m)

    def veil(self, colours: Colours, depth_m: float | Colours) -> NDArray[np.uint8]:
        """Colours as they look through `depth_m` metres of haze."""
        share = np.asarray(1 - np.exp(-np.asarray(depth_m, dtype=np.float64) / self.haze_m))[..., None]
        seen: NDArray[np.float64] = np.clip(colours * (1 - share) + np.array(self.haze) * share, 0, 255)
        return seen.astype(np.uint8)

    def flat(self, colour: Colour, depth_m: float, *, strength: float = 0.9) -> Colour:
        """One colour, lit from nowhere in particular."""
        lit = np.array(colour) * strength * np.array(self.tint)
        r, g, b = self.veil(lit, depth_m).tolist()
        return r, g, b


_MOMENTS = {
    "day": ((74, 130, 205), (196, 218, 236), (196, 212, 228), 420.0, 0.55, 1.0, (1.03, 1.0, 0.96)),
    "overcast": ((150, 160, 174), (208, 212, 216), (196, 200, 205), 260.0, 0.82, 0.9, (0.97, 1.0, 1.03)),
    "dusk": ((44, 52, 98), (232, 158, 112), (158, 122, 120), 300.0, 0.6, 0.62, (1.06, 0.95, 0.95)),
}
