"""A folder of tiny pictures to train on, and recipes small enough for a CPU."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tis_ray.config import Recipe, parse
from tis_ray.training.progress import RunProgress
from tis_ray.training.run import Worker, run

COLOURS = [(250, 30, 30), (30, 30, 250)]


@pytest.fixture(scope="session")
def rectangles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO JSON of 8 images, 96x64, with red and blue squares of 14 to 25 px; the last image has none."""
    folder = tmp_path_factory.mktemp("rectangles")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(8):
        picture = Image.new("RGB", (96, 64), (40, 40, 40))
        for _ in range(2 if i < 7 else 0):
            x, y, side, label = (int(rng.integers(*span)) for span in ((0, 60), (0, 36), (14, 26), (0, 2)))
            ImageDraw.Draw(picture).rectangle([x, y, x + side - 1, y + side - 1], fill=COLOURS[label])
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": label + 1, "bbox": [x, y, side, side]}
            )
        picture.save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": 96, "height": 64})
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


@pytest.fixture
def make_recipe(rectangles: Path, tmp_path: Path) -> Callable[..., Recipe]:
    """`make_recipe(name, *overrides)`: a ShuffleNet recipe over `rectangles` that writes to `tmp_path/runs`."""

    def make(name: str = "toy", *overrides: str) -> Recipe:
        return small_recipe(rectangles, tmp_path / "runs", name, *overrides)

    return make


def small_recipe(data: Path, output: Path, name: str, *overrides: str) -> Recipe:
    """A ShuffleNet recipe over a COCO JSON that writes to `output`."""
    content = {
        "name": name,
        "output": str(output),
        "data": {"train": {"annotations": str(data)}, "scales": [48, 64], "batch_size": 2},
        "detector": {
            "backbone": "shufflenet_v2_x0_5",
            "neck": {"fpn": {"channels": 32}},
            "anchors": {"exact": {"sizes": [[8], [16], [24], [32], [64]]}},
            "rpn": {"samples_per_image": 64, "post_nms_top_n_train": 100, "post_nms_top_n_test": 50},
            "box": {"head": {"mlp": {"hidden": 64}}, "samples_per_image": 32, "max_instances": 10},
            "mask": {"pool_size": 7, "head": {"convs": {"channels": [16]}}},
        },
        "schedule": {"epochs": 2, "lr": 0.01, "warmup_iterations": 4, "milestones": [], "clip_grad_norm": 5.0},
        "resources": {"gpus_per_worker": 0},
    }
    return parse(Recipe, content, list(overrides), source="test")


class Killed(BaseException):
    """Stands for a process that ends in mid-epoch."""


@pytest.fixture
def run_until() -> Callable[..., None]:
    """`run_until(recipe, step)`: train until so many steps are done, and end there as a killed process does."""

    def cut(recipe: Recipe, step: int, worker: Worker = Worker()) -> None:
        def tell(progress: RunProgress) -> None:
            if progress.step == step:
                raise Killed

        with pytest.raises(Killed):
            run(recipe, worker=worker, tell=tell)

    return cut
