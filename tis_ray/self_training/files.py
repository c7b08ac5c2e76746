"""From results files of a teacher to the files that training reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tis_ray import __version__
from tis_ray.config import load_ensemble
from tis_ray.errors import ConfigError
from tis_ray.formats import coco
from tis_ray.formats.coco_results import stream_results
from tis_ray.formats.image_list import read_image_list
from tis_ray.formats.json_file import write_json
from tis_ray.formats.members import ensemble_categories
from tis_ray.formats.unlabelled import write_unlabelled
from tis_ray.instances import Categories
from tis_ray.self_training import external, missing
from tis_ray.self_training.external import Labelled, label_images, listed_dataset
from tis_ray.self_training.missing import Missing, find_missing


def write_missing(
    results: Path,
    ground_truth: Path,
    out: Path,
    *,
    image_folder: Path | None = None,
    min_score: float = missing.MIN_SCORE,
    max_overlap: float = missing.MAX_OVERLAP,
) -> Missing:
    """Write to `out`, for `data.train.unlabelled`, what `results` find in the images of the COCO file `ground_truth`
    that it has no label for; see `find_missing`.
    """
    _check_range("min_score", min_score)
    _check_range("max_overlap", max_overlap)
    truth = coco.read(ground_truth, image_folder)
    found = find_missing(stream_results(results, truth), truth, min_score=min_score, max_overlap=max_overlap)
    bounds = {"min_score": min_score, "max_overlap": max_overlap, "same_iou": missing.SAME_IOU}
    write_unlabelled(out, found.found, truth, made_by=_made_by(results, ground_truth=str(ground_truth), **bounds))
    return found


def write_external(
    results: Path,
    images: Path,
    out: Path,
    *,
    categories: Categories | None = None,
    image_folder: Path | None = None,
    min_score: float = external.MIN_SCORE,
) -> Labelled:
    """Write to `out`, a COCO file for `data.external`, what `results` find in `images`; see `label_images`.

    images:     a folder, a .txt list or a COCO .json, what the results were made of
    categories: the classes of the results; by default the `images`' own, where they are a .json that has any
    """
    _check_range("min_score", min_score)
    categories = categories or own_categories(images)
    if categories is None:
        raise ConfigError(
            "--categories: expected what made the results, an ensemble or a checkpoint's folder, or a COCO .json with "
            f"their classes, since {images} has none; got nothing"
        )
    dataset = listed_dataset(images, read_image_list(images, image_folder), categories)
    labelled = label_images(stream_results(results, dataset), dataset, min_score=min_score)
    info = _made_by(results, images=str(images), min_score=min_score)
    write_json(out, {"info": {"made_by": info}, **labelled.content})
    return labelled


def categories_of(source: Path) -> Categories:
    """The classes of a COCO .json, or of an ensemble as `load_ensemble` reads it."""
    if source.suffix.lower() != ".json":
        return ensemble_categories(load_ensemble(source))
    found = own_categories(source)
    if found is None:
        raise ConfigError(f"--categories: expected a COCO .json with classes; got none in {source}")
    return found


def own_categories(images: Path) -> Categories | None:
    """The classes of a COCO .json, by whose ids results are written; None where there are none, and of other files."""
    return coco.read_frames(images).categories or None if images.suffix.lower() == ".json" else None


def _made_by(results: Path, **how: Any) -> Mapping[str, Any]:
    return {"tis_ray": __version__, "results": str(results), **how}


def _check_range(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"--{name.replace('_', '-')}: expected a number in 0..1; got {value:g}")
