"""The fusing of results files: which file is whose, at which scale, and what it counts."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from tis_ray.config.fusion import FusionMember, FusionSection, Range
from tis_ray.config.section import Section
from tis_ray.errors import ConfigError
from tis_ray.views import View

_OF_MEMBER = ("weight", "role")  # what an entry may say of its member


class ResultsFile(Section):
    """COCO results of one model, or of one of its views; in YAML the path alone is enough.

    `member` says whose they are, by default an own one of the entry's name; `scale`, the shorter edge of the network
    input in px, and `flip`, whether the images were mirrored, tell apart several files of one member. `max_long_edge`
    is the longest edge in px that the input may have at that scale. `weight` and `role` are its member's in the fusion
    section, `range` that of its scale.
    """

    file: Path
    member: str | None = Field(default=None, min_length=1)
    scale: PositiveInt | None = None
    flip: bool = False
    max_long_edge: PositiveInt | None = None
    weight: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    role: Literal["both", "boxes", "masks"] | None = None
    range: Range | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_path(cls, content: Any) -> Any:
        if isinstance(content, (str, Path)):
            return {"file": content}
        bare = [key for key, value in content.items() if value == {}] if isinstance(content, dict) else []
        if len(bare) == 1 and "file" not in content:  # what `--set results.a.weight=2` makes of `a: a.json`
            return {"file": bare[0], **{key: value for key, value in content.items() if key != bare[0]}}
        return content


class ResultsFiles(Section):
    """Results files by name, and how they are fused. A list of paths is named by the files' stems.

    What an entry says of its member and its scale may stand in the fusion section instead, but not in both.
    """

    results: dict[str, ResultsFile] = Field(min_length=1)
    fusion: FusionSection = FusionSection()

    @model_validator(mode="before")
    @classmethod
    def _fill_names(cls, content: Any) -> Any:
        files = content.get("results") if isinstance(content, dict) else None
        if not isinstance(files, list) or not all(isinstance(file, (str, Path)) for file in files):
            return content
        return {**content, "results": by_stem(files)}

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_entries()
        self._check_fusion()
        return self

    @property
    def views(self) -> dict[str, View]:
        """The view that each file stands for, by the file's name; its scale is 0 where none is given."""
        return {
            name: View(entry.member or name, entry.scale or 0, entry.flip, max_long_edge=entry.max_long_edge)
            for name, entry in self.results.items()
        }

    @property
    def section(self) -> FusionSection:
        """The fusion section with what the entries say in its `members` and `ranges`."""
        views = self.views
        section = self.fusion.fitted({view.scale for view in views.values()})
        members, ranges = dict(section.members), dict(section.ranges)
        for name, entry in self.results.items():
            view = views[name]
            said = {key: getattr(entry, key) for key in _OF_MEMBER if getattr(entry, key) is not None}
            members[view.member] = members.get(view.member, FusionMember()).model_copy(update=said)
            if entry.range is not None:
                ranges[view.key] = entry.range
        return section.model_copy(update={"members": members, "ranges": ranges})

    def located_in(self, folder: Path) -> Self:
        """The same with absolute paths; relative ones start at `folder`."""
        results = {
            name: entry.model_copy(update={"file": (folder / entry.file).resolve()})
            for name, entry in self.results.items()
        }
        return self.model_copy(update={"results": results})

    def _check_entries(self) -> None:
        """Names that keys can be made of, every file and view once, and nothing said twice."""
        owners: dict[tuple[str, bool], str] = {}
        files: dict[str, str] = {}
        said: dict[tuple[str, str], Any] = {}
        views = self.views
        for name, entry in self.results.items():
            view = views[name]
            where = f"results.{name}"
            if not view.member or "@" in view.member:
                raise ValueError(f"{where}: expected a name without '@', here or under its member; got '{view.member}'")
            first = owners.setdefault((view.key, view.flip), name)
            if first != name:
                raise ValueError(
                    f"{where}: expected another member, scale or flip than results.{first} has; got the same"
                )
            first = files.setdefault(os.path.normpath(entry.file), name)
            if first != name:
                raise ValueError(f"{where}.file: expected another file than results.{first} has; got {entry.file}")
            for key, owner in (*((key, view.member) for key in _OF_MEMBER), ("range", view.key)):
                value = getattr(entry, key)
                if value is None:
                    continue
                if said.setdefault((key, owner), value) != value:
                    raise ValueError(
                        f"{where}.{key}: expected what {owner} has in another file, {said[key, owner]}; got {value}"
                    )
                if self._has(key, owner):
                    kind = "ranges" if key == "range" else "members"
                    raise ValueError(f"{where}.{key}: expected it either here or in fusion.{kind}.{owner}; got both")

    def _check_fusion(self) -> None:
        """Nothing about members and scales that are not there, nothing that files do not know."""
        members = {view.member for view in self.views.values()}
        for member in self.fusion.members:
            if member not in members:
                raise ValueError(f"fusion.members.{member}: expected one of {', '.join(sorted(members))}")
        scaled = {view.key for view in self.views.values() if view.scale}
        known = sorted(scaled | {key[key.index("@") :] for key in scaled})
        for key in self.fusion.fitted({view.scale for view in self.views.values()}).ranges:
            if key not in known:
                expected = f"one of {', '.join(known)}" if known else "a scale under results"
                raise ValueError(f"fusion.ranges.{key}: expected {expected}")
        if self.fusion.auto_ranges is not None:
            raise ValueError("fusion.ranges: expected intervals, since results files know no training sizes; got auto")
        if all(self.section.members[member].role == "masks" for member in members):
            raise ValueError("results: expected a file whose boxes count; got role masks for all")
        for name, entry in self.results.items():
            if entry.scale is None and self.fusion.masks.name == "scale_ratio":
                raise ValueError(
                    f"results.{name}.scale: expected the network input's shorter edge in px, which the masks of "
                    "fusion.masks.scale_ratio are chosen by; got none"
                )

    def _has(self, key: str, owner: str) -> bool:
        """Whether the fusion section as it was written says this of a member or of its scale."""
        if key == "range":
            return owner in self.fusion.ranges
        return key in self.fusion.members.get(owner, FusionMember()).model_fields_set


def by_stem(files: Sequence[Path | str]) -> dict[str, dict[str, Any]]:
    """The `results` of a config, each file named by its stem. Raises `ConfigError` for two of one stem."""
    named: dict[str, dict[str, Any]] = {}
    for file in files:
        stem = Path(file).stem
        if not stem:
            raise ConfigError(f"results: expected files; got {file or 'an empty name'}")
        if stem in named:
            raise ConfigError(
                f"results: expected files of different stems, their names; got {named[stem]['file']} and {file}"
            )
        named[stem] = {"file": str(file)}
    return named
