"""Batch runs of small random images for tests of the streamed pipeline, and what they found in plain values."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tis_ray.config import Ensemble
from tis_ray.formats.image_list import read_image_list
from tis_ray.formats.members import ensemble_categories
from tis_ray.runs.folder import RunFolder, create, open_run


def write_images(folder: Path, count: int) -> Path:
    """So many random pictures of several sizes."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 256, (60 + 4 * (i % 5), 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03}.png")
    return folder


def new_run(path: Path, ensemble: Ensemble, images: Path, *, images_per_shard: int = 3) -> RunFolder:
    """A run of all `images` in which nothing is done yet."""
    return create(
        path,
        {},
        ensemble=ensemble,
        categories=ensemble_categories(ensemble),
        images=read_image_list(images),
        images_per_shard=images_per_shard,
        keeps_views=True,
    )


def found(run: Path) -> list[Any]:
    """All that a run has found, to the bit, but for the seconds that it took."""
    opened = open_run(run)
    outcomes = [
        (
            one.image_id,
            one.file_name,
            one.size_hw,
            one.status,
            one.error,
            *(array.tobytes() for array in (one.instances.boxes, one.instances.scores, one.instances.labels)),
            None if one.instances.masks is None else one.instances.masks.to_rle(*one.size_hw),
            [(view.view, view.status, view.num_instances) for view in one.outcomes],
        )
        for one in opened.outcomes()
    ]
    views = [
        (one.image_id, [(view.name, part.boxes.tobytes(), part.scores.tobytes()) for view, part in one.found.items()])
        for one in opened.views()
    ]
    return [*outcomes, *views]
