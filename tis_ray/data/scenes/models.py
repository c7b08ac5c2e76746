"""Painting a model of solids in perspective: faces turned away are left out, far solids come first."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tis_ray.data.scenes.camera import Camera
from tis_ray.data.scenes.canvas import Canvas, Pen
from tis_ray.data.scenes.light import Light
from tis_ray.data.scenes.solids import Solid


def paint_model(
    canvas: Canvas,
    camera: Camera,
    light: Light,
    solids: Sequence[Solid],
    *,
    x: float,
    z: float,
    yaw: float,
    number: int,
) -> None:
    """Paint a vehicle that stands at (x, z) and heads `yaw` radians right of straight ahead, with its shadow."""
    turn = np.array([[np.sin(yaw), 0, np.cos(yaw)], [np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0]])
    place, eye = np.array([x, 0.0, z]), np.array([0.0, camera.height_m, 0.0])
    centres = np.array([solid.centre for solid in solids]) @ turn + place
    nearness = -np.linalg.norm(centres - eye, axis=1)
    order = sorted(range(len(solids)), key=lambda i: (solids[i].layer, nearness[i]))
    faces = [(face, i) for i in order for face in solids[i].faces]
    corners = np.array([point for face, _ in faces for point in face.points]) @ turn + place
    firsts = np.cumsum([0] + [len(face.points) for face, _ in faces])
    normals = _outward_normals(corners, firsts[:-1], centres[[i for _, i in faces]])
    shown = ((corners[firsts[:-1]] - eye) * normals).sum(axis=1) < 0
    colours = np.array([face.colour for face, _ in faces], dtype=np.float64)
    lamps = np.array([face.lamp for face, _ in faces])
    lit = light.shade(colours, normals, z)
    lit[lamps] = light.veil(colours[lamps] * (1.0 if light.lamps else 0.85), z)
    pixels = camera.project(corners)
    shadow = _shadow(camera, np.array([point for face, _ in faces for point in face.points]), turn, place)

    def paint(pen: Pen) -> None:
        for points, alpha in shadow:
            pen.polygon(points, (12, 12, 16), alpha=alpha, mask=False)
        for k in np.flatnonzero(shown).tolist():
            face, i = faces[k]
            r, g, b = lit[k].tolist()
            outline = pixels[firsts[k] : firsts[k + 1]]
            pen.polygon(outline, (r, g, b), alpha=face.alpha, labelled=solids[i].labelled)
        if light.lamps:
            _halos(pen, pixels, firsts, lit, lamps & shown)

    everything = np.concatenate([pixels, *(points for points, _ in shadow)])
    low, high = everything.min(axis=0), everything.max(axis=0)
    canvas.paint((low[0], low[1], high[0], high[1]), number, paint)


def _outward_normals(
    corners: NDArray[np.float64], firsts: NDArray[np.int64], centres: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Unit normals (F, 3) of the faces that begin at `firsts`, pointing away from their solids' `centres`."""
    a = corners[firsts]
    normals = np.cross(corners[firsts + 1] - a, corners[firsts + 2] - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    inward = ((a - centres) * normals).sum(axis=1) < 0
    return np.where(inward[:, None], -normals, normals)


def _shadow(
    camera: Camera, local: NDArray[np.float64], turn: NDArray[np.float64], place: NDArray[np.float64]
) -> list[tuple[NDArray[np.float64], int]]:
    """The dark place under a model: its footprint, the edge of it softened by three layers."""
    low, high = local.min(axis=0), local.max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    half[1] = min(half[1], half[0] * 0.5)
    layers = []
    for grown, alpha in ((1.12, 50), (1.04, 60), (0.94, 80)):
        ground = [(middle[0] + i * half[0] * grown, middle[1] + k * half[1] * grown, 0.0) for i, k in _CORNERS]
        points = np.array(ground) @ turn + place
        points[:, 2] = np.maximum(points[:, 2], 1.0)
        layers.append((camera.project(points), alpha))
    return layers


_CORNERS = ((-1, -0.9), (-0.85, -1), (0.85, -1), (1, -0.9), (1, 0.9), (0.85, 1), (-0.85, 1), (-1, 0.9))


def _halos(
    pen: Pen,
    pixels: NDArray[np.float64],
    firsts: NDArray[np.int64],
    lit: NDArray[np.uint8],
    glowing: NDArray[np.bool_],
) -> None:
    for k in np.flatnonzero(glowing).tolist():
        outline = pixels[firsts[k] : firsts[k + 1]]
        (x, y), reach = outline.mean(axis=0).tolist(), float(np.ptp(outline, axis=0).max())
        r, g, b = lit[k].tolist()
        for share in (0.5, 0.75, 1.0):
            pen.ellipse(x, y, reach * share, reach * share, (r, g, b), alpha=20, mask=False)
