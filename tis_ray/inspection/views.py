"""The views that a member is asked for, each with the frames that one forward looks at."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from tis_ray.config import Recipe, WadFolder
from tis_ray.errors import ConfigError
from tis_ray.inference.predictor import BATCH_PX
from tis_ray.views import SizeHW, View

WAD_HW = (2710, 3384)
COMMON_HW = (480, 640)  # most of COCO's


@dataclass(frozen=True, slots=True)
class Frames:
    """What a scale, of the whole image or of a crop, makes a detector look at.

    key:        as in an ensemble without the member, `1810` or `720.strip`
    network_hw: size of one frame
    per_image:  frames in all: of each tile, and of each mirror image
    per_batch:  of these in one forward
    """

    key: str
    network_hw: SizeHW
    per_image: int
    per_batch: int


def default_image_hw(recipe: Recipe) -> SizeHW:
    """Size of WAD's pictures for a recipe that trains on them, else the most common one of COCO's."""
    return WAD_HW if recipe.data is not None and isinstance(recipe.data.train, WadFolder) else COMMON_HW


def views_of(recipe: Recipe, scales: Sequence[int] = ()) -> list[View]:
    """The views of the recipe's `test` section, else its last training scale; or `scales` in their place.

    Scales are of the whole image, mirrored too where the views they replace are.
    """
    ensemble = recipe.ensemble()
    views = [] if ensemble is None else list(ensemble.members[recipe.name].views(recipe.name))
    if scales:
        longest = views[0].max_long_edge if views else None
        flips = sorted({view.flip for view in views}) or [False]
        return [View(recipe.name, scale, flip, max_long_edge=longest) for scale in scales for flip in flips]
    if not views:
        raise ConfigError("--scale: expected at least one for a recipe with neither test nor data; got none")
    return views


def frames_of(views: Sequence[View], image_hw: SizeHW) -> list[Frames]:
    """One entry for each scale, as the predictor batches its mirror images and its tiles.

    Raises `ConfigError` where a crop misses an image of this size.
    """
    found = []
    for key, group in groupby(views, key=lambda view: view.key.partition("@")[2]):
        same = list(group)
        tiles = same[0].tiles(image_hw)
        if not tiles:
            raise ConfigError(
                f"--image: expected a size that crop {same[0].crop_name} {list(same[0].crop)} meets; "
                f"got {image_hw[1]}x{image_hw[0]}"
            )
        height, width = tiles[0].network_hw(image_hw)
        tiles_at_once = min(len(tiles), max(1, BATCH_PX // (len(same) * height * width)))
        found.append(Frames(key, (height, width), len(same) * len(tiles), len(same) * tiles_at_once))
    return found
