"""The command that spreads an ensemble over GPUs: plan."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from tis_ray.cli.shared import Overrides, check_out, console, progress, say, size_wh
from tis_ray.errors import ConfigError

if TYPE_CHECKING:
    from tis_ray.config import Ensemble
    from tis_ray.planning.costs import Costs

_MEMORY_GB = 80.0


def plan(
    ensemble: Annotated[Path, typer.Argument(help="Ensemble file, checkpoint folder, or a shipped name.")],
    gpus: Annotated[int, typer.Option(min=1, help="GPUs that the view servers get.")],
    image_size: Annotated[
        str, typer.Option(metavar="WxH", help="Size of the pictures; that of --image or --costs where given.")
    ] = "3384x2710",
    image: Annotated[Path | None, typer.Option(help="A picture to measure with, in place of noise.")] = None,
    memory_gb: Annotated[
        float | None, typer.Option(min=1, help="Memory of each GPU, 10^9 bytes; default: what was measured on, or 80.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Run the views on this machine's device; else costs are estimated.")
    ] = False,
    repetitions: Annotated[int, typer.Option(min=1, help="Runs of each view, of which the median counts.")] = 5,
    costs: Annotated[Path | None, typer.Option(help="Costs from a file that --save-costs wrote.")] = None,
    save_costs: Annotated[Path | None, typer.Option(help="Write what the views cost, as .json.")] = None,
    group: Annotated[
        str, typer.Option(help="Which views share a model: member, scale, written (as in the file) or auto.")
    ] = "auto",
    out: Annotated[Path | None, typer.Option(help="Write the ensemble with the plan's groups and replicas.")] = None,
    overrides: Overrides = None,
) -> None:
    """Say how many replicas each deployment needs on so many GPUs, and which scales should share a model.

    Example: `tis-ray plan wad_2018 --gpus 8 --measure --save-costs costs.json --out planned.yaml`
    """
    import yaml

    from tis_ray import whole_files
    from tis_ray.config import dump_views, load_ensemble
    from tis_ray.planning.applied import fragment, planned
    from tis_ray.planning.costs import write_costs
    from tis_ray.planning.plan import Group, Planner
    from tis_ray.planning.table import report

    if costs is not None and (measure or image is not None):
        raise ConfigError("--costs: expected neither --measure nor --image beside it, which would make others")
    if image is not None and not measure:
        raise ConfigError("--image: expected --measure beside it; estimates look at no picture")
    if group not in get_args(Group):
        raise ConfigError(f"--group: expected one of {', '.join(get_args(Group))}; got '{group}'")
    for option, path in (("--out", out), ("--save-costs", save_costs)):
        check_out(option, path)
    loaded = load_ensemble(ensemble, overrides or ())
    known = _known(loaded, costs) if costs else _made(loaded, image_size, image, measure=measure, times=repetitions)
    if save_costs is not None:
        write_costs(save_costs, known)
    memory_gb = memory_gb or known.memory_gb or _MEMORY_GB
    found = Planner(loaded, known, gpus=gpus, memory_gb=memory_gb).compare(cast(Group, group))
    for part in report(found, known, gpus=gpus, memory_gb=memory_gb):
        console().print(part)
    say("")
    say(yaml.safe_dump(fragment(loaded, found.best), sort_keys=False, default_flow_style=None).rstrip())
    if out is not None:
        whole_files.write(out, yaml.safe_dump(dump_views(planned(loaded, found.best)), sort_keys=False))
        say(f"planned: {out}")


def _known(ensemble: "Ensemble", path: Path) -> "Costs":
    from tis_ray.planning.costs import read_costs

    costs = read_costs(path)
    costs.check_covers(ensemble, source=str(path))
    return costs


def _made(ensemble: "Ensemble", image_size: str, image: Path | None, *, measure: bool, times: int) -> "Costs":
    from tis_ray.formats.images import open_image
    from tis_ray.planning.estimating import estimate

    width, height = size_wh("--image-size", image_size)
    with progress() as bar:
        task = bar.add_task("views", total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if not measure:
            return estimate(ensemble, (height, width), on_progress=tell)
        from tis_ray.planning.measuring import measure as run
        from tis_ray.planning.measuring import noise

        picture = noise((height, width)) if image is None else open_image(image)
        return run(ensemble, picture, repetitions=times, on_progress=tell)
