"""What views cost by shapes alone, without weights, pictures or a GPU: for a first plan, and for its proportions.

Memory is that of a forward without a device (`tis_ray.inspection`). Seconds are those of a GPU that does 100 TFLOP a
second of a detector's work in bf16 and takes 20 ms for each forward whatever its size, about an H200 without compiled
graphs. Others are slower by a factor that is nearly the same for all views, which changes no plan, but each of its
seconds: measure before you rely on them.
"""

from pathlib import Path

from tis_ray.config import Ensemble, Recipe, parse, read_yaml
from tis_ray.errors import CheckpointError, ConfigError
from tis_ray.formats.categories import read_categories
from tis_ray.inference.batches import batches_of, pictures_at_once
from tis_ray.inference.predictor import GPU_BATCH_PX
from tis_ray.inspection.assembled import sizes_of
from tis_ray.inspection.costs import OnProgress
from tis_ray.inspection.dry_run import DryRun
from tis_ray.planning.costs import GIB, Costs, MemberCosts, ViewCost, check_meets, twins_of
from tis_ray.views import SizeHW, View

FLOP_PER_S = 100e12
FORWARD_S = 0.020


def estimate(ensemble: Ensemble, image_hw: SizeHW, *, on_progress: OnProgress | None = None) -> Costs:
    """The costs of all views on pictures of this size (height, width). Weights of the checkpoints are not read.

    Raises `CheckpointError` for a checkpoint without a recipe or classes, and `ConfigError` for a crop that misses
    such pictures.
    """
    twins = twins_of(ensemble)
    total, done = sum(map(len, twins.values())), 0
    members = {}
    for name, views in twins.items():
        dry = _dry_run(ensemble.members[name].checkpoint)
        costs = {}
        for key, pair in views.items():
            costs[key] = _cost(dry, ensemble, pair, image_hw)
            done += 1
            if on_progress is not None:
                on_progress(done, total)
        weights = sum(size.num_bytes for size in sizes_of(dry.detector)) / GIB
        members[name] = MemberCosts(weights_gib=weights, views=costs)
    return Costs(
        device=f"a GPU of {FLOP_PER_S / 1e12:g} TFLOP/s in bf16",
        image_size=f"{image_hw[1]}x{image_hw[0]}",
        seconds="estimated",
        memory="estimated",
        members=members,
    )


def _dry_run(checkpoint: Path) -> DryRun:
    categories = read_categories(checkpoint)
    try:
        recipe = parse(Recipe, read_yaml(checkpoint / "recipe.yaml"), source=str(checkpoint / "recipe.yaml"))
    except ConfigError as error:
        raise CheckpointError(f"checkpoint {checkpoint}: {error}") from None
    return DryRun(recipe.detector, categories)


def _cost(dry: DryRun, ensemble: Ensemble, views: list[View], image_hw: SizeHW) -> ViewCost:
    check_meets(views, image_hw)
    most_px = ensemble.inference.batch_px or GPU_BATCH_PX
    batches = batches_of(views, image_hw, batch_px=most_px)
    size_hw = batches[0][0].tile.network_hw(image_hw)
    frames = sum(map(len, batches))
    seconds = FORWARD_S * len(batches) + frames * sum(dry.flops(size_hw).values()) / FLOP_PER_S
    # Of the pictures that may share a forward each takes as much again; more than may wait never come together.
    pictures = min(pictures_at_once(batches, image_hw, batch_px=most_px), ensemble.limits.max_queued_requests)
    peak = dry.peak(size_hw, num_frames=len(batches[0]), bfloat16=True)
    return ViewCost(seconds=seconds, gib=pictures * peak.num_bytes / GIB)
