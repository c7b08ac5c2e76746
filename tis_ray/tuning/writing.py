"""A tuned fusion section into the YAML file of its ensemble: what did not change stays, comments and order included."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml.error import YAMLError

from tis_ray import whole_files
from tis_ray.calibration.writing import in_one_line, put, rewritten, section_at
from tis_ray.config import Ensemble, FusionSection, dump, parse
from tis_ray.config.fusion import FusionMember
from tis_ray.errors import ConfigError

_NOTE = "# tuned: "
_KEYS = ("rare_boost", "ranges", "auto_ranges", "rules", "masks")


def write_tuned(source: Path, out: Path, before: FusionSection, after: FusionSection, *, note: Sequence[str]) -> None:
    """Write the ensemble file `source`, whose section is `before`, to `out` with that of `after` in its place.

    The lines of `note` stand at its top, in the place of an earlier one's. Raises `ConfigError` where the file cannot
    be changed without changing more.
    """
    whole_files.write(out, tuned_text(source, before, after, note=note))


def check_rewritable(source: Path, before: FusionSection) -> None:
    """Raise `ConfigError`, before anything is searched, where `write_tuned` would for this file."""
    tuned_text(source, before, before.model_copy(update={"top_k": before.top_k}), note=())


def tuned_text(source: Path, before: FusionSection, after: FusionSection, *, note: Sequence[str]) -> str:
    """The new text of the file."""
    text = "".join(line for line in source.read_text().splitlines(keepends=True) if not line.startswith(_NOTE))
    try:
        written = rewritten(text, lambda content: _insert(content, before, after))
    except YAMLError as error:
        raise ConfigError(f"{source}: expected YAML without doubles; got {' '.join(str(error).split())}") from None
    old, new = yaml.safe_load(text), yaml.safe_load(written)
    same = {**old, "fusion": None} == {**new, "fusion": None}
    if not same or _said(parse(Ensemble, new, source=str(source)).fusion) != _said(after):
        raise ConfigError(f"{source}: expected a fusion section without YAML anchors: write these out first")
    return "".join(f"{_NOTE}{line}\n" for line in note) + written


def changes(before: FusionSection, after: FusionSection, *, most: int | None = 120) -> list[tuple[str, str, str]]:
    """Each key of the section that differs, as it was and as it is, in YAML on one line of `most` characters.

    Of members what differs from the defaults is shown.
    """
    old, new = ({**said, "members": _told(said["members"])} for said in (_said(before), _said(after)))
    keys = [key for key in ("members", *_KEYS) if old[key] != new[key]]
    return [(key, _short(old[key], most=most), _short(new[key], most=most)) for key in keys]


def _insert(content: dict[str, Any], before: FusionSection, after: FusionSection) -> None:
    """Change a file's content in place; see `tis_ray.calibration.writing` for where new keys go."""
    old, new = _said(before), _said(after)
    if old == new:
        return
    section = section_at(content, "fusion")
    if old["auto_ranges"] != new["auto_ranges"] and section.get("ranges") == "auto":
        section["ranges"] = in_one_line(new["ranges"])
    for key in reversed(_KEYS):
        if old[key] != new[key]:
            put(section, key, in_one_line(new[key]))
    nothing = dump(FusionMember())
    for name in sorted({**old["members"], **new["members"]}, reverse=True):
        was, now = (said["members"].get(name, nothing) for said in (old, new))
        for key in reversed(now):
            if was[key] != now[key]:
                put(section_at(section_at(section, "members"), name), key, in_one_line(now[key]))


def _said(section: FusionSection) -> dict[str, Any]:
    """What a section says, in plain values: the same for sections that fuse alike."""
    content = dump(section)
    nothing = dump(FusionMember())
    members = {name: dump(member) for name, member in section.members.items()}
    content["members"] = {name: said for name, said in sorted(members.items()) if said != nothing}
    return {key: value for key, value in content.items() if key != "preset"}


def _told(members: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Members without the keys that are as by default."""
    nothing = dump(FusionMember())
    return {
        name: {key: value for key, value in said.items() if value != nothing[key]} for name, said in members.items()
    }


def _short(value: Any, *, most: int | None) -> str:
    text = " ".join(yaml.safe_dump(value, default_flow_style=True, width=1 << 16).replace("...", "").split())
    return text if most is None or len(text) <= most else f"{text[: most - 1]}…"
