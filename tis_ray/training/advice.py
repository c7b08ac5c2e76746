"""What a person may want to know of a recipe before it is trained, though nothing of it is wrong."""

from tis_ray.config import Recipe


def advice(recipe: Recipe) -> list[str]:
    """Lines to be shown when a run begins."""
    lines = [_milestones(recipe), _resizing(recipe)]
    return [f"{recipe.name}: {line}" for line in lines if line]


def _milestones(recipe: Recipe) -> str:
    """An end that was brought forward for a short try leaves them behind it."""
    schedule = recipe.schedule
    end, unit = (schedule.epochs, "epoch") if schedule.iterations is None else (schedule.iterations, "iteration")
    late = [f"{milestone:g}" for milestone in schedule.milestones if milestone >= end]
    if not late:
        return ""
    kept = "is not lowered" if len(late) == len(schedule.milestones) else "is not lowered further"
    return (
        f"schedule.milestones: {', '.join(late)} {'lies' if len(late) == 1 else 'lie'} behind the end, after "
        f"{end} {unit}{'' if end == 1 else 's'}; the learning rate {kept}"
    )


def _resizing(recipe: Recipe) -> str:
    resources = recipe.resources
    if resources.least_workers == resources.most_workers or recipe.schedule.checkpoint_every_iterations is not None:
        return ""
    return (
        "resources.workers: each change of their number loses what was learned since the last epoch's end; "
        "schedule.checkpoint_every_iterations makes that less"
    )
