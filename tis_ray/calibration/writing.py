"""Calibrations into the YAML file that names the members; its comments and the order of its keys stay."""

import io
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.util import load_yaml_guess_indent

from tis_ray import whole_files
from tis_ray.calibration.fitting import MemberFit
from tis_ray.config import Choice, dump, read_yaml
from tis_ray.errors import ConfigError


def check_rewritable(source: Path, members: Iterable[str]) -> None:
    """Raise `ConfigError`, before anything is fitted, where `write_calibrated` would for these members."""
    nothing = np.zeros(0, dtype=np.float32)
    samples = {
        name: MemberFit(Choice(name="platt", options={"slope": number}), {}, "", {}, nothing, nothing, nothing > 0)
        for number, name in enumerate(members)
    }
    _checked(source, samples)


def write_calibrated(source: Path, out: Path, fits: Mapping[str, MemberFit]) -> None:
    """Write the file `source` to `out`, which may be the same, with `fits` under `fusion.members`.

    Of the members that were fitted, the calibrations are those of `fits` afterwards, and no others. Raises
    `ConfigError` where the file cannot be changed without changing more.
    """
    written = _checked(source, fits)
    whole_files.write(out, written)


class _Representer(RoundTripRepresenter):
    """Writes small numbers as 1.0e-05: YAML 1.1, by which the file will be read, takes 1e-05 for text."""

    def represent_float(self, data: float) -> Any:
        text = repr(data)
        return self.represent_scalar("tag:yaml.org,2002:float", text if "." in text else text.replace("e", ".0e"))


_Representer.add_representer(float, _Representer.represent_float)


def _checked(source: Path, fits: Mapping[str, MemberFit]) -> str:
    """The file's new text, which says what the old one said and the calibrations besides."""
    expected = _apart(read_yaml(source))
    _insert(expected, fits)
    try:
        written = rewritten(source.read_text(), lambda content: _insert(content, fits))
    except YAMLError as error:
        raise ConfigError(f"{source}: expected YAML without doubles; got {' '.join(str(error).split())}") from None
    if yaml.safe_load(written) != expected:
        raise ConfigError(
            f"{source}: expected members that stand for themselves; got YAML anchors: write these out first"
        )
    return written


def _apart(value: Any) -> Any:
    """The same values, none of them in two places, as those are that a YAML names by an anchor."""
    if isinstance(value, dict):
        return {key: _apart(inner) for key, inner in value.items()}
    return [_apart(inner) for inner in value] if isinstance(value, list) else value


def rewritten(text: str, change: Callable[[dict[str, Any]], None]) -> str:
    """A YAML's text with its content changed in place by `change`; its comments stay. Raises ruamel's `YAMLError`."""
    _, sequence, offset = load_yaml_guess_indent(text)
    first_indented = re.search(r"^( +)[^\s#-]", text, re.MULTILINE)
    editor = YAML()
    editor.Representer = _Representer
    editor.preserve_quotes = True
    editor.width = 1 << 16  # no line of the user's is broken
    mapping = len(first_indented[1]) if first_indented else 2
    editor.indent(mapping=mapping, sequence=sequence or mapping + 2, offset=offset if sequence else mapping)
    content = editor.load(text)
    change(content)
    stream = io.StringIO()
    editor.dump(content, stream)
    return stream.getvalue()


def _insert(content: dict[str, Any], fits: Mapping[str, MemberFit]) -> None:
    """Change a file's content, plain or with its comments, in place.

    What is new goes to the front of its section: ruamel.yaml ties the comment above the next section to the last entry.
    """
    members = section_at(section_at(content, "fusion"), "members")
    for name, fit in reversed(list(fits.items())):
        fitted = {"calibration": fit.calibration, "class_calibration": fit.class_calibration}
        if name not in members and not any(fitted.values()):
            continue
        member = section_at(members, name)
        for key, value in reversed(fitted.items()):
            if value:
                put(member, key, in_one_line(_plain(value)))
            else:
                member.pop(key, None)


def section_at(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """The section at `key`, made where there is none, or no more than the name of a preset."""
    found = parent.get(key)
    if isinstance(found, dict):
        return found
    made = CommentedMap({} if found is None else {"preset": found})
    if found is not None and isinstance(parent, CommentedMap) and key in parent.ca.items:
        made.ca.items["preset"] = parent.ca.items.pop(key)  # with what follows the name: it stays behind it
    if key == "fusion" and key not in parent:
        parent[key] = made
    else:
        put(parent, key, made)
    return made


def put(section: dict[str, Any], key: str, value: Any) -> None:
    """Set what is there, else put it in front."""
    if key in section or not isinstance(section, CommentedMap):
        section[key] = value
    else:
        section.insert(0, key, value)


def _plain(value: Choice | Mapping[str, Choice]) -> Any:
    return dump(value) if isinstance(value, Choice) else {name: dump(choice) for name, choice in value.items()}


def in_one_line(value: Any) -> Any:
    """The same mappings and lists, to be written as `{a: 1, b: [2, 3]}`."""
    if isinstance(value, dict):
        made: Any = CommentedMap({key: in_one_line(inner) for key, inner in value.items()})
    elif isinstance(value, list):
        made = CommentedSeq([in_one_line(inner) for inner in value])
    else:
        return value
    made.fa.set_flow_style()
    return made
