"""A whole scene set on disk: JPEG images, maps of stuff and COCO JSON for training and validation.

Several processes make it.
"""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tis_ray import whole_files
from tis_ray.data.scenes.classes import SceneClass, scene_classes
from tis_ray.data.scenes.render import DEFAULT_SIZE_WH, check_settings, render_scene
from tis_ray.data.scenes.stuff import stuff_categories
from tis_ray.errors import InputError
from tis_ray.instances import Annotations

_SETTINGS_FILE = "scenes.json"
_JSON_FILES = {"train": "instances_train.json", "val": "instances_val.json"}
_COMMON_FROM, _FREQUENT_FROM = 11, 101  # training images of a class, as LVIS draws the lines


@dataclass(frozen=True, slots=True)
class ScenesSummary:
    """What was written: files, number of images, instances of each class, and shares of small ones.

    `share_under_16px` and `share_under_32px` count instances by the square root of their visible area.
    """

    images_dir: Path
    stuff_dir: Path
    train_json: Path
    val_json: Path
    num_train: int
    num_val: int
    instances: dict[str, int]
    share_under_16px: float
    share_under_32px: float


def write_scenes(
    out: Path,
    *,
    num_images: int,
    preset: str = "driving",
    size_wh: tuple[int, int] = DEFAULT_SIZE_WH,
    seed: int = 0,
    val_fraction: float = 0.25,
    processes: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ScenesSummary:
    """Write `out/images/*.jpg`, `out/stuff/*.png`, `out/instances_train.json` and `out/instances_val.json`.

    The last images are for validation. Maps of stuff are those of COCO-stuff; both JSONs name what is in them.

    Image i depends on `seed`, i, `preset` and `size_wh` alone, so that the files are the same for any number
    of processes; `processes` None takes one for each core. New processes import the caller's main module, as
    `multiprocessing` does with its spawn method. `on_progress` is called with the number of images done. The
    same settings may be written again, which adds the maps to a set from before there were any; `InputError` is
    raised for wrong values and for a folder that holds a data set made in another way.
    """
    _check(num_images, val_fraction, processes)
    check_settings(seed, size_wh, preset)
    settings = {
        "num_images": num_images,
        "preset": preset,
        "size_wh": list(size_wh),
        "seed": seed,
        "val_fraction": val_fraction,
        "stuff": True,
    }
    out = Path(out)
    _claim(out, settings)
    scenes = []
    make = partial(_write_image, out, seed, (size_wh[0], size_wh[1]), preset)
    for annotations in _in_order(make, num_images, processes):
        scenes.append(annotations)
        if on_progress is not None:
            on_progress(len(scenes))
    num_val = min(max(round(num_images * val_fraction), 1), num_images - 1)
    _write_annotations(out, scenes, num_images - num_val, size_wh, preset)
    return _summary(out, scenes, num_val, scene_classes(preset))


def _check(num_images: int, val_fraction: float, processes: int | None) -> None:
    if num_images < 2:
        raise InputError(f"num_images: expected at least 2, one to train and one to validate; got {num_images}")
    if not 0 < val_fraction < 1:
        raise InputError(f"val_fraction: expected a share between 0 and 1; got {val_fraction}")
    if processes is not None and processes < 1:
        raise InputError(f"processes: expected at least 1, or None for one a core; got {processes}")


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Make the folder and note the settings there; refuse one that other settings or other hands have filled."""
    if out.exists() and not out.is_dir():
        raise InputError(f"out: expected a folder or a new path; got a file: {out}")
    noted = out / _SETTINGS_FILE
    if noted.exists():
        try:
            there = json.loads(noted.read_text())
        except ValueError:
            there = None
        if there not in (settings, {key: value for key, value in settings.items() if key != "stuff"}):
            raise InputError(
                f"out: expected a new folder or a scene set of the same settings, {settings}; got {out} with {there}"
            )
    elif any((out / name).exists() for name in _JSON_FILES.values()):
        raise InputError(f"out: expected a new folder or a scene set; got another data set in {out}")
    for name in ("images", "stuff"):
        (out / name).mkdir(parents=True, exist_ok=True)
    whole_files.write(noted, json.dumps(settings, indent=1) + "\n")


def _in_order(make: Callable[[int], Annotations], num_images: int, processes: int | None) -> Iterator[Annotations]:
    workers = min(processes or os.cpu_count() or 1, num_images)
    if workers == 1:
        yield from map(make, range(num_images))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(make, range(num_images), chunksize=max(min(num_images // (workers * 4), 16), 1))


def _write_image(out: Path, seed: int, size_wh: tuple[int, int], preset: str, index: int) -> Annotations:
    """The annotations of the image that was written, without its map: all images' are kept until the end."""
    picture, annotations = render_scene(seed, size_wh, preset, index=index)
    quality = int(np.random.default_rng([seed, index, 3]).integers(74, 94))
    Image.fromarray(picture).save(out / "images" / _file_name(index), quality=quality)
    Image.fromarray(annotations.stuff).save((out / "stuff" / _file_name(index)).with_suffix(".png"), compress_level=1)
    return replace(annotations, stuff=None)


def _file_name(index: int) -> str:
    return f"{index:06d}.jpg"


def _write_annotations(
    out: Path, scenes: list[Annotations], num_train: int, size_wh: tuple[int, int], preset: str
) -> None:
    classes = scene_classes(preset)
    entries = _categories(classes, scenes[:num_train], counted=preset == "longtail")
    for split, indices in (("train", range(num_train)), ("val", range(num_train, len(scenes)))):
        images = [_image(i, scenes[i], size_wh, classes, federated=preset == "longtail") for i in indices]
        annotations = list(_instances(((i, scenes[i]) for i in indices), size_wh, classes))
        content = {
            "images": images,
            "annotations": annotations,
            "categories": entries,
            "stuff_categories": stuff_categories(),
        }
        whole_files.write(out / _JSON_FILES[split], json.dumps(content, separators=(",", ":")))


def _image(
    index: int, scene: Annotations, size_wh: tuple[int, int], classes: tuple[SceneClass, ...], *, federated: bool
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": index + 1,
        "file_name": _file_name(index),
        "width": size_wh[0],
        "height": size_wh[1],
    }
    if federated:  # LVIS: every class is checked in every image, and those not seen are truly absent
        present = set(scene.labels.tolist())
        entry["neg_category_ids"] = [c.category_id for k, c in enumerate(classes) if k not in present]
        entry["not_exhaustive_category_ids"] = []
    return entry


def _instances(
    scenes: Iterable[tuple[int, Annotations]], size_wh: tuple[int, int], classes: tuple[SceneClass, ...]
) -> Iterator[dict[str, Any]]:
    """COCO annotations; an id holds the image's number and the instance's place in it."""
    for index, scene in scenes:
        rles, areas = scene.masks.to_rle(size_wh[1], size_wh[0]), scene.masks.areas().tolist()
        for k, (x1, y1, x2, y2) in enumerate(scene.boxes.astype(int).tolist()):
            yield {
                "id": (index + 1) * 1000 + k,
                "image_id": index + 1,
                "category_id": classes[int(scene.labels[k])].category_id,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": areas[k],
                "iscrowd": 0,
                "segmentation": rles[k],
            }


def _categories(classes: tuple[SceneClass, ...], training: list[Annotations], *, counted: bool) -> list[dict[str, Any]]:
    """COCO's categories; with `counted`, LVIS's training counts and the frequency that follows from them."""
    entries: list[dict[str, Any]] = [
        {"id": c.category_id, "name": c.name, "supercategory": c.supercategory} for c in classes
    ]
    if counted:
        for k, entry in enumerate(entries):
            images = sum(bool((scene.labels == k).any()) for scene in training)
            entry["image_count"] = images
            entry["instance_count"] = sum(int((scene.labels == k).sum()) for scene in training)
            entry["frequency"] = "f" if images >= _FREQUENT_FROM else "c" if images >= _COMMON_FROM else "r"
    return entries


def _summary(out: Path, scenes: list[Annotations], num_val: int, classes: tuple[SceneClass, ...]) -> ScenesSummary:
    labels = np.concatenate([scene.labels for scene in scenes])
    sides = np.sqrt(np.concatenate([scene.masks.areas() for scene in scenes]))
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    return ScenesSummary(
        images_dir=out / "images",
        stuff_dir=out / "stuff",
        train_json=out / _JSON_FILES["train"],
        val_json=out / _JSON_FILES["val"],
        num_train=len(scenes) - num_val,
        num_val=num_val,
        instances={c.name: count for c, count in zip(classes, counts, strict=True)},
        share_under_16px=float((sides < 16).mean()) if len(sides) else 0.0,
        share_under_32px=float((sides < 32).mean()) if len(sides) else 0.0,
    )
