"""The command that makes the scores of members comparable: calibrate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tis_ray.cli.shared import check_out, console, news, say
from tis_ray.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tis_ray.formats.dataset import GroundTruth
    from tis_ray.instances import Annotations, Instances


def calibrate(
    ensemble: Annotated[Path, typer.Argument(help="Ensemble file, or a YAML that lists results files.")],
    data: Annotated[Path, typer.Option(help="COCO JSON with annotations, or folder of WAD label images.")],
    image_folder: Annotated[
        Path | None, typer.Option(help="Folder of a COCO JSON's files, where not beside it; pictures of WAD labels.")
    ] = None,
    method: Annotated[str, typer.Option(help="temperature, platt or isotonic.")] = "platt",
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Classes by themselves, too, where a member has enough of them.")
    ] = False,
    iou: Annotated[float, typer.Option(help="IoU with an object from which a box is a hit.")] = 0.5,
    out: Annotated[
        Path | None, typer.Option(help="File to write, beside the ensemble file; default: NAME.calibrated.yaml.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the members' reliability diagrams, as .png.")] = None,
) -> None:
    """Make the scores of an ensemble's members comparable: fit them to a validation set.

    Writes the file anew with the fitted calibrations under `fusion.members`. Example:
    `tis-ray calibrate demo/ensemble.yaml --data demo/scenes/instances_val.json`
    """
    from tis_ray.calibration.fitting import check_fit, check_some, fit_members
    from tis_ray.calibration.table import fits_table, remarks
    from tis_ray.calibration.writing import write_calibrated
    from tis_ray.formats.opening import open_path

    check_fit(method, iou)
    out = _checked_out(ensemble, out, data)
    if plot is not None:
        from tis_ray.evaluation.plots import check_picture

        check_picture(plot, key="--plot")
        check_out("--plot", plot)
    dataset = open_path(data, image_folder)
    if not len(dataset):
        raise ConfigError(f"--data: expected at least one image; {data} has none")
    fits = fit_members(_found(ensemble, dataset), dataset.categories, method=method, per_class=per_class, iou=iou)
    check_some(fits)
    console().print(fits_table(fits))
    for line in remarks(fits):
        news(line)
    write_calibrated(ensemble, out, fits)
    say(f"calibrated: {out}")
    if plot is not None:
        from tis_ray.evaluation.plots import reliability_diagrams

        reliability_diagrams({name: (fit.before, fit.after) for name, fit in fits.items()}, plot)
        say(f"reliability diagrams: {plot}")


def _found(path: Path, dataset: "GroundTruth") -> "Iterator[tuple[Annotations, dict[str, Instances]]]":
    """What the members of an ensemble, or of a file that lists results, find in each image of the data set."""
    from tis_ray.calibration.writing import check_rewritable
    from tis_ray.config import load_ensemble, read_yaml
    from tis_ray.results.progress import shown_on

    progress = shown_on(Console(stderr=True, highlight=False))
    if "results" in read_yaml(path):
        from tis_ray.calibration.files import found_in_files
        from tis_ray.results.opening import open_files

        files = open_files([path])
        check_rewritable(path, sorted({view.member for view in files.views.values()}))
        return found_in_files(files, dataset, progress=progress)
    ensemble = load_ensemble(path)
    check_rewritable(path, ensemble.members)
    from tis_ray.calibration.members import found_by_members
    from tis_ray.inference.ensemble import load

    return found_by_members(load(ensemble), dataset, progress=progress)


def _checked_out(ensemble: Path, out: Path | None, data: Path) -> Path:
    """Where the new file goes. Raises `ConfigError` for what would overwrite unasked or break its relative paths."""
    if out is None:
        out = ensemble.with_name(f"{ensemble.stem}.calibrated{ensemble.suffix or '.yaml'}")
        if out.exists():
            raise ConfigError(f"--out: {out} is there already; name it to write over it")
        return out
    if out.resolve().parent != ensemble.resolve().parent:
        folder = ensemble.parent.resolve()
        raise ConfigError(
            f"--out: expected a file in {folder}, since paths in {ensemble.name} are relative to it; got {out}"
        )
    if out.suffix.lower() not in (".yaml", ".yml", ensemble.suffix.lower()):
        raise ConfigError(f"--out: expected a .yaml file; got {out}")
    if out.resolve() == data.resolve():
        raise ConfigError(f"--out: expected another file than --data; got {out}")
    check_out("--out", out)
    return out
