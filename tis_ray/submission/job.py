"""The cluster's side of self-training: a teacher looks at images as a Ray job, and its results become training data."""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ray
from ray import serve
from rich.console import Console

from tis_ray.config import load_ensemble
from tis_ray.errors import ConfigError, ServiceError, TisRayError
from tis_ray.formats.members import ensemble_categories
from tis_ray.self_training.files import own_categories, write_external, write_missing
from tis_ray.serving.running import APPLICATION
from tis_ray.submission.run import predict


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, predict and write; 2 for a user's mistake, 1 where images failed."""
    parser = argparse.ArgumentParser(description="Make training data of what a teacher finds, as one Ray job.")
    parser.add_argument("teacher", type=Path, help="ensemble file, checkpoint folder, or a shipped name")
    parser.add_argument("--ground-truth", type=Path, help="COCO JSON of a training set, to find what it lacks")
    parser.add_argument("--images", type=Path, help="folder, .txt list or COCO JSON of images to label")
    parser.add_argument("--image-folder", type=Path, help="folder of a COCO JSON's files, where not beside it")
    parser.add_argument("--out", type=Path, required=True, help="file to write, on storage that lasts")
    parser.add_argument("--min-score", type=float, default=0.5, help="least score of a box that is believed")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="change a key of the ensemble")
    parser.add_argument("--fresh", action="store_true", help="delete what an earlier job found, and begin anew")
    parser.add_argument("--in-flight", type=int, default=32, help="images opened or waiting at any time")
    asked = parser.parse_args(arguments)
    try:
        return run(asked)
    except (TisRayError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(asked: argparse.Namespace) -> int:
    """Predict into `OUT.results.json`, going on where an earlier job has got to, and write `OUT`."""
    if (asked.ground_truth is None) == (asked.images is None):
        raise ConfigError("--ground-truth, --images: expected one of them, what the teacher is to look at")
    ensemble = load_ensemble(asked.teacher, asked.set)
    results, images = asked.out.with_suffix(".results.json"), asked.ground_truth or asked.images
    with cluster() as address:
        summary = predict(
            ensemble,
            images,
            results,
            console=Console(stderr=True, highlight=False, markup=False),
            address=address,
            image_folder=asked.image_folder,
            in_flight=asked.in_flight,
            in_process=False,
            resume=not asked.fresh,
            retry=() if asked.fresh else ("failed",),
            fresh=asked.fresh,
        )
    options = {"image_folder": asked.image_folder, "min_score": asked.min_score}
    if asked.ground_truth is not None:
        missing = write_missing(results, asked.ground_truth, asked.out, **options)
        print(f"{missing.num_boxes} unlabelled boxes in {len(missing.found)} images: {asked.out}")
    else:
        classes = own_categories(images) or ensemble_categories(ensemble)
        labelled = write_external(results, images, asked.out, categories=classes, **options)
        print(f"{labelled.num_boxes} boxes in {labelled.num_images} images: {asked.out}")
    if summary.failed:
        print(f"{len(summary.failed)} images failed, listed in {summary.failures_file}", file=sys.stderr)
    return 1 if summary.failed else 0


@contextmanager
def cluster() -> Iterator[str | None]:
    """The address of the job's cluster where it serves an ensemble already; None where that is to be started.

    It is then started on the cluster, to which this process is connected meanwhile, or without one (no RAY_ADDRESS) on
    this machine. Raises `ServiceError` where Serve runs other applications there: they would end with the job.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        yield None
        return
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        running = serve.status().applications
        if APPLICATION in running:
            ray.shutdown()
            yield address
        elif running:
            raise ServiceError(
                "RAY_ADDRESS: expected a cluster without Serve applications, or one that serves the teacher; "
                f"got one with {', '.join(sorted(running))}"
            )
        else:
            yield None
    finally:
        ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
