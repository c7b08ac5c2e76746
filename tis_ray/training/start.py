"""The detector that training begins with: random but for its backbone's weights, or begun from another checkpoint."""

from tis_ray.config import Choice, DetectorSection, Recipe, StartSection
from tis_ray.errors import CheckpointError
from tis_ray.instances import Categories
from tis_ray.models import checkpoint
from tis_ray.models.assembly import build_detector, without_weights
from tis_ray.models.detector import Detector
from tis_ray.models.transfer import Transferred, transfer

MOST_NAMES = 10  # of classes or parts in one line


def first_detector(recipe: Recipe, categories: Categories, *, goes_on: bool = False) -> tuple[Detector, str]:
    """The detector before its first step, and a line about where its weights are from, empty where nobody asked.

    Where the run `goes_on` from a checkpoint of its own neither `start` nor the backbone's weights are looked at: what
    they are good for has been learned from. Raises `CheckpointError` where nothing of `start.checkpoint` fits.
    """
    bare = without_weights(recipe.detector)
    if goes_on:
        return build_detector(bare, categories), ""
    if recipe.start is None:
        return build_detector(recipe.detector, categories), ""
    source, their_recipe, their_categories = checkpoint.load(recipe.start.checkpoint)
    has_backbone = _backbone(their_recipe.detector) == _backbone(recipe.detector)
    detector = build_detector(bare if has_backbone else recipe.detector, categories)
    done = transfer(detector, categories, source=source, source_categories=their_categories, names=recipe.start.classes)
    if not done.copied:
        raise CheckpointError(
            f"start.checkpoint: expected some weights of the same names and shapes as this detector's in "
            f"{recipe.start.checkpoint}; it has none"
        )
    return detector, _told(recipe.start, categories, done)


def _backbone(section: DetectorSection) -> tuple[Choice, str]:
    """What decides the names and shapes of the backbone's weights; some necks leave its last stage to the heads."""
    return without_weights(section).backbone, section.neck.name


def _told(start: StartSection, categories: Categories, done: Transferred) -> str:
    known = len(categories) - len(done.unknown)
    told = f"begins with weights of {start.checkpoint}, {known} of {len(categories)} classes among them"
    left = [_listed(names, of) for names, of in ((done.unknown, "class"), (done.kept, "part")) if names]
    return f"{told}; not from there: {'; '.join(left)}" if left else told


def _listed(names: tuple[str, ...], of: str) -> str:
    more = len(names) - MOST_NAMES
    shown = ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
    plural = of if len(names) == 1 else {"class": "classes", "part": "parts"}[of]
    return f"{plural} {shown}"
