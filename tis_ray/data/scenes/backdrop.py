"""Sky, far skyline, road with its markings and pavements: all that lies behind the objects but the houses."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tis_ray.data.scenes.camera import Camera
from tis_ray.data.scenes.houses import paint_house
from tis_ray.data.scenes.light import Colour, Light
from tis_ray.data.scenes.street import LANE_M, Street
from tis_ray.data.scenes.stuff import BUILDING, GRASS, GROUND, PAVEMENT, ROAD, SKY

_NEAR_M, _FAR_M = 1.2, 600.0
_UP = np.array([[0.0, 1.0, 0.0]])


def paint_backdrop(
    rng: np.random.Generator, camera: Camera, light: Light, street: Street
) -> tuple[Image.Image, NDArray[np.uint8]]:
    """The empty street, RGB, in the camera's size, and its map of stuff (H, W): what lies at the middle of a pixel."""
    scale = 2 if max(camera.size_wh) <= 4096 else 1
    picture = _sky(rng, camera, light, scale)
    labels = Image.new("L", picture.size, SKY)
    stuff = ImageDraw.Draw(labels)
    ground = _Ground(ImageDraw.Draw(picture), stuff, camera, light, scale)
    _skyline(rng, ground)
    _surfaces(rng, ground, street)
    _markings(rng, ground, street)
    draw = ImageDraw.Draw(picture)
    for house in sorted(street.buildings, key=lambda house: -house.z):
        wall = street.walls[0 if house.side < 0 else 1]
        paint_house(draw, stuff, camera, light, house, wall, scale)
    seen = np.array(labels.resize(camera.size_wh, Image.Resampling.NEAREST))
    return _weathered(rng, picture.reduce(scale) if scale > 1 else picture), seen


class _Ground:
    """Paints flat polygons of the street plane, cut at the near end, and what they are on the map of stuff."""

    def __init__(
        self, draw: ImageDraw.ImageDraw, stuff: ImageDraw.ImageDraw, camera: Camera, light: Light, scale: int
    ) -> None:
        self.draw, self.stuff, self.camera, self.light, self.scale = draw, stuff, camera, light, scale

    def quad(self, x: tuple[float, float], z: tuple[float, float], colour: Colour, stuff: int | None = None) -> None:
        """A rectangle of the ground; long ones are split so that the haze thickens along them.

        Without `stuff` it is what it lies on.
        """
        start, stop = max(z[0], _NEAR_M), z[1]
        if stop <= start:
            return
        steps = max(int(np.log(stop / start) * 4), 1)
        cuts = np.geomspace(start, stop, steps + 1)
        lit = self.light.shade(
            np.tile(np.array(colour, dtype=np.float64), (steps, 1)), np.repeat(_UP, steps, 0), cuts[:-1]
        )
        rows = [self.camera.ground(0.0, cut)[1] * self.scale for cut in cuts.tolist()]
        left = [self.camera.ground(x[0], cut)[0] * self.scale for cut in cuts.tolist()]
        right = [self.camera.ground(x[1], cut)[0] * self.scale for cut in cuts.tolist()]
        for i, (r, g, b) in enumerate(lit.tolist()):
            corners = [(left[i], rows[i]), (right[i], rows[i]), (right[i + 1], rows[i + 1]), (left[i + 1], rows[i + 1])]
            self.draw.polygon(corners, fill=(r, g, b))
            if stuff is not None:
                self.stuff.polygon(corners, fill=stuff)


def _sky(rng: np.random.Generator, camera: Camera, light: Light, scale: int) -> Image.Image:
    """A vertical gradient with soft clouds, made small and enlarged."""
    width, height = camera.size_wh
    step = _coarse_step(camera.size_wh)
    size_hw = -(-height // step), -(-width // step)
    rows = np.clip(np.arange(size_hw[0]) * step / camera.horizon_px, 0, 1)[:, None, None] ** 1.3
    sky = np.array(light.sky_top) * (1 - rows) + np.array(light.sky_low) * rows
    clouds = _blotches(rng, size_hw, 9) + 0.5 * _blotches(rng, size_hw, 28)
    cover = np.clip(clouds - rng.uniform(0.2, 1.2), 0, 1)[..., None] * (0.55 if light.name == "day" else 0.25)
    bright = np.array(light.sky_low) * 0.5 + 250 * (0.5 if light.name == "day" else 0.3)
    painted = np.clip(sky * (1 - cover) + bright * cover, 0, 255).astype(np.uint8)
    return Image.fromarray(painted).resize((width * scale, height * scale), Image.Resampling.BILINEAR)


def _coarse_step(size_wh: tuple[int, int]) -> int:
    """Pixels of the picture to one of soft things, which need no more than about a thousand either way."""
    return max(2, -(-max(size_wh) // 1024))


def _blotches(rng: np.random.Generator, size_hw: tuple[int, int], cells: int) -> NDArray[np.float32]:
    """Smooth noise of about unit spread; `cells` blobs across the frame, whatever its size."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize(size_hw[::-1], Image.Resampling.BICUBIC))


def _skyline(rng: np.random.Generator, ground: _Ground) -> None:
    """Pale blocks and trees that close the street far away."""
    camera, scale = ground.camera, ground.scale
    x, width = -0.1 * camera.size_wh[0], camera.size_wh[0]
    while x < width * 1.1:
        wide, tall = width * rng.uniform(0.02, 0.09), camera.focal_px * rng.uniform(0.01, 0.09)
        tone = ground.light.flat((96, 104, 108), rng.uniform(250, 600))
        top = (camera.horizon_px - tall) * scale
        block = (x * scale, top, (x + wide) * scale, (camera.horizon_px + 1) * scale)
        ground.draw.rectangle(block, fill=tone)
        ground.stuff.rectangle(block, fill=BUILDING)
        x += wide * rng.uniform(0.6, 1.2)


def _surfaces(rng: np.random.Generator, ground: _Ground, street: Street) -> None:
    grey = int(rng.integers(72, 112))
    asphalt, paving = (grey, grey, grey + 3), (grey + 58, grey + 54, grey + 48)
    verge, growing = ((84, 112, 62), GRASS) if rng.random() < 0.3 else (paving, PAVEMENT)
    ground.quad((-400, 400), (_NEAR_M, _FAR_M), (118, 116, 110), GROUND)
    left, right = street.kerbs
    ground.quad((left, right), (_NEAR_M, _FAR_M), asphalt, ROAD)
    for kerb, wall in zip(street.kerbs, street.walls, strict=True):
        out = np.sign(wall - kerb)
        ground.quad((kerb, wall), (_NEAR_M, _FAR_M), paving, PAVEMENT)
        ground.quad((kerb + out * 0.3, kerb + out * 1.3), (_NEAR_M, _FAR_M), verge, growing)
        ground.quad((kerb, kerb + out * 0.22), (_NEAR_M, _FAR_M), (196, 194, 188), PAVEMENT)
        for z in np.arange(2.0, 40.0, 2.0).tolist():
            ground.quad((kerb + out * 1.3, wall), (z, z + 0.06), (grey + 34, grey + 30, grey + 26))
    if street.crossing:
        ground.quad((-120, 120), street.crossing, asphalt, ROAD)
    for _ in range(int(rng.integers(2, 7))):
        x, z, tone = rng.uniform(left, right), np.exp(rng.uniform(1.2, 3.8)), grey - int(rng.integers(6, 22))
        ground.quad(
            (x - rng.uniform(0.3, 1.6), x + rng.uniform(0.3, 1.6)),
            (z, z + rng.uniform(0.6, 8)),
            (tone, tone, tone),
            ROAD,
        )


def _markings(rng: np.random.Generator, ground: _Ground, street: Street) -> None:
    white, line = (222, 222, 216), 0.08
    yellow = (222, 178, 62) if rng.random() < 0.75 else white
    xs = sorted({round(x + s * LANE_M / 2, 3) for x, _ in street.lanes for s in (-1, 1)})
    stop = street.crossing[0] - 1 if street.crossing else _FAR_M
    spans = [(_NEAR_M, min(stop - 3.5, 150.0))]
    if street.crossing:
        spans.append((street.crossing[1] + 1, 150.0))
    phase = rng.uniform(0, 8)
    for x in xs:
        for start, end in spans:
            if street.divider is not None and abs(x - street.divider) < 0.01:
                ground.quad((x - 0.2, x - 0.2 + line * 1.4), (start, end), yellow)
                ground.quad((x + 0.2 - line * 1.4, x + 0.2), (start, end), yellow)
            elif x in (xs[0], xs[-1]):
                ground.quad((x - line, x + line), (start, end), white)
            else:
                for z in np.arange(start - phase, end - 3, 9.0).tolist():
                    ground.quad((x - line, x + line), (z, z + 3.5), white)
    if street.crossing:
        for x in np.arange(street.kerbs[0] + 0.6, street.kerbs[1] - 0.6, 1.0).tolist():
            ground.quad((x, x + 0.5), (street.crossing[0] - 3.2, street.crossing[0] - 0.2), white)
            ground.quad((x, x + 0.5), (street.crossing[1] + 0.2, street.crossing[1] + 3.2), white)


def _weathered(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Uneven light and wear over everything painted so far."""
    width, height = picture.size
    step = _coarse_step(picture.size)
    size_hw = -(-height // step), -(-width // step)
    coarse = 1 + np.float32(0.035) * _blotches(rng, size_hw, 12) + np.float32(0.025) * _blotches(rng, size_hw, 60)
    wear = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))
    out = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, 256):  # in bands, so that a large frame needs no copy in float
        band = np.asarray(picture.crop((0, top, width, min(top + 256, height))))
        out[top : top + 256] = np.clip(band * wear[top : top + 256, :, None], 0, 255).astype(np.uint8)
    return Image.fromarray(out)
