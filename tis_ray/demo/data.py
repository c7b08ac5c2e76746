"""What the demo runs on: procedural scenes, or a COCO-format folder cut to what trains in minutes."""

from pathlib import Path

import orjson

from tis_ray.errors import DataError
from tis_ray.formats import coco
from tis_ray.formats.coco import CocoDataset

NUM_SCENES, VAL_FRACTION = 340, 40 / 340
MAX_TRAIN_IMAGES, MAX_VAL_IMAGES = 300, 40


def scenes(out: Path, seed: int) -> tuple[Path, Path, Path]:
    from tis_ray.data.scenes import write_scenes

    write_scenes(out / "scenes", num_images=NUM_SCENES, seed=seed, val_fraction=VAL_FRACTION)
    return out / "scenes/instances_train.json", out / "scenes/instances_val.json", out / "scenes/images"


def user_data(data: Path, out: Path) -> tuple[Path, Path, Path]:
    """Train and val JSONs of a COCO-format folder, cut to what trains in minutes; a single JSON is split."""
    train, val = _find(data, "train"), _find(data, "val")
    if train is None or val is None:
        single = train or val or _find(data, "")
        if single is None:
            raise DataError(f"data: expected a COCO JSON such as instances_train.json in {data}; found none")
        dataset = _read(single, data)
        cut = max(1, min(MAX_VAL_IMAGES, len(dataset) // 5))
        ids = [record.id for record in dataset.images]
        parts = [(dataset, ids[cut:][:MAX_TRAIN_IMAGES]), (dataset, ids[:cut])]
    else:
        both = _read(train, data), _read(val, data)
        limits = (MAX_TRAIN_IMAGES, MAX_VAL_IMAGES)
        parts = [(one, [r.id for r in one.images][:limit]) for one, limit in zip(both, limits, strict=True)]
    folder = out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "instances_train.json", folder / "instances_val.json"]
    for path, (dataset, ids) in zip(written, parts, strict=True):
        if not ids:
            raise DataError(f"data: expected at least 2 images in {data}; {path.name} would be empty")
        _write_part(dataset, set(ids), path)
    return written[0], written[1], Path("/")


def _find(data: Path, word: str) -> Path | None:
    """A COCO JSON with `word` in its name, here or in `annotations/`; instances rather than captions."""
    patterns = [f"instances*{word}*.json".replace("**", "*"), f"*{word}*.json".replace("**", "*")]
    folders = [data, data / "annotations"]
    return next((path for glob in patterns for folder in folders for path in sorted(folder.glob(glob))), None)


def _read(path: Path, data: Path) -> CocoDataset:
    """The data set of a JSON; images of `instances_train2017.json` may lie in `train2017/`, as COCO has them."""
    split = path.stem.removeprefix("instances_")
    folder = next((one for one in (data / split, data / "images" / split) if one.is_dir()), None)
    return coco.read(path, folder)


def _write_part(dataset: CocoDataset, ids: set[int], path: Path) -> None:
    """A COCO JSON of some images of a data set, its file names absolute."""
    content = {
        "images": [
            {"id": one.id, "file_name": str(one.path.resolve()), "height": one.height, "width": one.width}
            for one in dataset.images
            if one.id in ids
        ],
        "annotations": [entry for image_id in sorted(ids) for entry in dataset.entries(image_id)],
        "categories": dataset.categories.to_json(),
    }
    path.write_bytes(orjson.dumps(content))
