"""What the views of an ensemble cost, as values and as a file that is written once and planned with many times."""

from pathlib import Path
from typing import Literal

import orjson
from pydantic import Field

from tis_ray import whole_files
from tis_ray.config import Ensemble, dump, parse
from tis_ray.config.section import Section
from tis_ray.errors import ConfigError
from tis_ray.views import SizeHW, View

GIB = 2**30
HowKnown = Literal["measured", "estimated"]


class ViewCost(Section):
    """What a view and its mirror image cost, on one picture: seconds, and GiB of the device beside the weights.

    The memory is that of as many pictures as share a forward; the time is that of one picture alone.
    """

    seconds: float = Field(gt=0, allow_inf_nan=False)
    gib: float = Field(ge=0, allow_inf_nan=False)


class MemberCosts(Section):
    """GiB of a member's weights, and what its views cost by their names without the member: `1810`, `1440.strip`."""

    weights_gib: float = Field(ge=0, allow_inf_nan=False)
    views: dict[str, ViewCost]


class Costs(Section):
    """The costs of all views on pictures of `image_size`, WIDTHxHEIGHT, and how they came to be known.

    device:    whose seconds these are, in words
    memory_gb: of that device, in 10^9 bytes, if it is a GPU
    """

    device: str
    image_size: str
    seconds: HowKnown
    memory: HowKnown
    memory_gb: float | None = Field(default=None, gt=0)
    members: dict[str, MemberCosts]

    def of(self, view: View) -> ViewCost:
        """What a view costs together with its mirror image."""
        return self.members[view.member].views[key_of(view)]

    def check_covers(self, ensemble: Ensemble, *, source: str) -> None:
        """Raise `ConfigError` naming the first view of the ensemble whose cost is not known."""
        for view in ensemble.views:
            known = self.members.get(view.member)
            if known is None or key_of(view) not in known.views:
                raise ConfigError(
                    f"{source}: expected what view {view.key} costs; it has {', '.join(self._names()) or 'no views'}"
                )

    def _names(self) -> list[str]:
        return [f"{name}@{key}" for name, member in self.members.items() for key in member.views]


def read_costs(path: Path) -> Costs:
    """Read a file of costs. Raises `ConfigError` where it is none."""
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"--costs: expected a readable file; {path}: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{path}: expected JSON, as --save-costs writes it; got {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected an object, as --save-costs writes it; got {type(content).__name__}")
    return parse(Costs, content, source=str(path))


def write_costs(path: Path, costs: Costs) -> None:
    """Write a file that `read_costs` reads; it appears when it is whole."""
    whole_files.write(path, orjson.dumps(dump(costs), option=orjson.OPT_INDENT_2) + b"\n")


def key_of(view: View) -> str:
    """A view's name without its member's, which it shares with its mirror image."""
    return view.key.partition("@")[2]


def twins_of(ensemble: Ensemble) -> dict[str, dict[str, list[View]]]:
    """The views of each member by `key_of`: each with its mirror image, which shares its forwards."""
    found: dict[str, dict[str, list[View]]] = {name: {} for name in ensemble.members}
    for view in ensemble.views:
        found[view.member].setdefault(key_of(view), []).append(view)
    return found


def check_meets(views: list[View], image_hw: SizeHW) -> None:
    """Raise `ConfigError` where a picture of this size shows nothing of what a view looks at."""
    if not views[0].tiles(image_hw):
        raise ConfigError(
            f"--image-size: expected a size that the crop {list(views[0].crop)} of view {views[0].key} meets; "
            f"got {image_hw[1]}x{image_hw[0]}"
        )
