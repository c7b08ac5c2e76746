"""The folder of a batch run: what it is of, its list of images, and its shards.

run.json               what decides the results, and its digest: a run goes on as it began or not at all (`binding`)
ensemble.yaml          the ensemble, complete
images.parquet         the list of images: a shard holds `images_per_shard` of them in a row
shards/000000.parquet  what was found (`shards`); the only record of what is done
views/000000.parquet   what each view found (`kept_views`), written before the shard of its number
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import orjson
import pyarrow as pa
import yaml

from tis_ray import whole_files
from tis_ray.config import Ensemble, dump, load_ensemble
from tis_ray.config.data_path import is_remote
from tis_ray.errors import ConfigError, DataError
from tis_ray.formats.image_list import ListedImage
from tis_ray.instances import Categories
from tis_ray.runs import image_table, kept_views, shards
from tis_ray.runs.binding import LOCK, digest
from tis_ray.runs.records import ImageOutcome, ImageViews
from tis_ray.views import View

RUN, ENSEMBLE, IMAGES, SHARDS, VIEWS = "run.json", "ensemble.yaml", "images.parquet", "shards", "views"
_FORMAT = "run 1"
_OWN = {RUN, ENSEMBLE, IMAGES, SHARDS, VIEWS, LOCK, "replicas.json"}  # the last is the note of `--replicas`
_SHARD = re.compile(r"\d{6,}\.parquet")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A batch run on disk. `categories` is the ensemble's table of classes, that the labels are positions in."""

    path: Path
    about: Mapping[str, Any]
    categories: Categories
    images: Sequence[ListedImage]
    images_per_shard: int
    keeps_views: bool

    @property
    def digest(self) -> str:
        """A short name of what decides the results; every shard of the run holds it."""
        return digest(self.about)

    @property
    def num_shards(self) -> int:
        """How many there are once the run is done."""
        return -(-len(self.images) // self.images_per_shard)

    @property
    def ensemble(self) -> Ensemble:
        """The ensemble that the run is of."""
        return load_ensemble(self.path / ENSEMBLE)

    def images_of(self, number: int) -> Sequence[ListedImage]:
        """The images of a shard."""
        return self.images[number * self.images_per_shard : (number + 1) * self.images_per_shard]

    def shard(self, number: int) -> Path:
        """Where a shard of results lies or will."""
        return self.path / SHARDS / f"{number:06d}.parquet"

    def view_shard(self, number: int) -> Path:
        """Where the shard of views of the same images lies or will."""
        return self.path / VIEWS / f"{number:06d}.parquet"

    @property
    def num_done(self) -> int:
        """How many images are in the shards that are there."""
        return sum(len(self.images_of(number)) for number in self.done())

    def done(self) -> list[int]:
        """The numbers of the shards that are there, ascending."""
        names = {path.name for path in _files(self.path / SHARDS)}
        return [number for number in range(self.num_shards) if self.shard(number).name in names]

    def write(self, number: int, outcomes: Sequence[ImageOutcome], views: Sequence[ImageViews] = ()) -> None:
        """Write a shard, and before it that of what the views found. Raises `OSError`."""
        if self.keeps_views:
            kept_views.write(self.view_shard(number), views, self.digest)
        shards.write(self.shard(number), outcomes, self.categories, self.digest)

    def discard(self, number: int) -> None:
        """Take a shard away, so that it is done anew."""
        self.shard(number).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Take away what processes that were killed left half-written. Nobody else may be writing."""
        for folder in (self.path, self.path / SHARDS, self.path / VIEWS):
            for file in _files(folder):
                if file.name.startswith(whole_files.PARTIAL):
                    whole_files.remove(file)

    def moved(self, images: Sequence[ListedImage], ensemble: Ensemble) -> Self:
        """The run with the same images, and the checkpoints of the same ensemble, where they lie now."""
        here = _found_from_anywhere(images)
        if dump(ensemble) != dump(self.ensemble):
            _write_ensemble(self.path, ensemble)
        if here == list(self.images):
            return self
        image_table.write(self.path / IMAGES, here)
        return replace(self, images=here)

    def outcomes(self) -> Iterator[ImageOutcome]:
        """What was found, image by image in the order of the list, of the shards that are there."""
        for number in self.done():
            yield from self.outcomes_of(number)

    def outcomes_with_views(self) -> Iterator[tuple[ImageOutcome, ImageViews]]:
        """Each image's outcome and, of the views that answered by it, what they found, in the order of `outcomes`.

        Raises as `outcomes_of` and `views` do. The two files of a shard are replaced one after the other: after a kill
        in between, views that had been missing are there already, which their outcome does not know of.
        """
        views = self._kept_views()
        for number in self.done():
            pairs = zip(self.outcomes_of(number), self._views_of(number, views), strict=True)
            for outcome, kept in pairs:
                if outcome.image_id != kept.image_id:
                    raise DataError(
                        f"{self.view_shard(number)}: expected image {outcome.image_id}, as among the results; "
                        f"got {kept.image_id}"
                    )
                yield outcome, kept.only_of(outcome)

    def outcomes_of(self, number: int) -> Iterator[ImageOutcome]:
        """The images of one shard. Raises `DataError` where it is missing, damaged or of another run."""
        return shards.read(self.shard(number), self.digest)

    def views(self) -> Iterator[ImageViews]:
        """What each view found, image by image, of the shards that are there.

        Raises `ConfigError` where the run did not keep that.
        """
        views = self._kept_views()
        for number in self.done():
            yield from self._views_of(number, views)

    def views_of(self, number: int) -> Iterator[ImageViews]:
        """What each view found in the images of one shard. Raises `DataError` as `outcomes_of` does."""
        return self._views_of(number, self.ensemble.views)

    def _views_of(self, number: int, views: Sequence[View]) -> Iterator[ImageViews]:
        return kept_views.read(self.view_shard(number), views, self.digest)

    def _kept_views(self) -> Sequence[View]:
        if not self.keeps_views:
            raise ConfigError(
                f"{self.path}: expected a run with kept views, `tis-ray predict --keep-views`; it has none"
            )
        return self.ensemble.views


def create(
    path: Path,
    about: Mapping[str, Any],
    *,
    ensemble: Ensemble,
    categories: Categories,
    images: Sequence[ListedImage],
    images_per_shard: int,
    keeps_views: bool,
) -> RunFolder:
    """A new run's folder, in place of the run that it holds, if any.

    `run.json` goes first and is written last: a folder without it holds no run, whatever else is there. Raises
    `ConfigError` for a folder with anything that is not a run's.
    """
    check_own(path)
    _clear(path)
    for name in (SHARDS, VIEWS) if keeps_views else (SHARDS,):
        (path / name).mkdir(parents=True, exist_ok=True)
    _write_ensemble(path, ensemble)
    image_table.write(path / IMAGES, _found_from_anywhere(images))
    content = {
        "format": _FORMAT,
        "digest": digest(about),
        "about": about,
        "categories": categories.to_json(),
        "images_per_shard": images_per_shard,
        "keeps_views": keeps_views,
    }
    with whole_files.replacing(path / RUN, durable=True) as partial:
        partial.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    return open_run(path)


def open_run(path: Path) -> RunFolder:
    """The run in a folder. Raises `DataError` where there is none."""
    try:
        content = orjson.loads((path / RUN).read_bytes())
        if content.get("format") != _FORMAT:
            raise ValueError(f"another kind of run than '{_FORMAT}'")
        categories = Categories.from_json(content["categories"])
        images = image_table.read(path / IMAGES)
        return RunFolder(
            path, content["about"], categories, images, content["images_per_shard"], content["keeps_views"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise DataError(f"{path}: expected the folder of a batch run; got {error}") from None


def holds_run(path: Path) -> bool:
    """Whether a folder is that of a batch run."""
    return (path / RUN).is_file()


def check_own(path: Path) -> None:
    """Raise `ConfigError` for a folder with anything that is not a run's: it is somebody's."""
    if path.exists() and not path.is_dir():
        raise ConfigError(f"--run: expected a folder; {path} is a file")
    strange = sorted(one.name for one in _files(path) if not _is_own(one))
    if strange:
        raise ConfigError(f"--run: expected a folder of a run, or a new one; {path} has {', '.join(strange[:3])}")


def _write_ensemble(path: Path, ensemble: Ensemble) -> None:
    whole_files.write(path / ENSEMBLE, yaml.safe_dump(dump(ensemble), sort_keys=False))


def _clear(path: Path) -> None:
    """Leave nothing of a run."""
    (path / RUN).unlink(missing_ok=True)
    for folder in (path / SHARDS, path / VIEWS):
        for file in _files(folder):
            file.unlink()


def _is_own(path: Path) -> bool:
    if path.name in (SHARDS, VIEWS):
        return all(_is_shard(file) for file in _files(path))
    return path.name in _OWN or path.name.startswith(whole_files.PARTIAL)


def _is_shard(path: Path) -> bool:
    return _SHARD.fullmatch(path.name) is not None or path.name.startswith(whole_files.PARTIAL)


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _found_from_anywhere(images: Sequence[ListedImage]) -> list[ListedImage]:
    return [image if is_remote(image.path) else replace(image, path=image.path.absolute()) for image in images]
