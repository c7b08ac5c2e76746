"""The list of parts is complete, cheap to make, and says of each option what the config will accept."""

import inspect
import json
import subprocess
import sys
import types
from typing import Annotated, Any, Literal, get_args

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from tis_ray.config import Choice, DataSection, DetectorSection
from tis_ray.errors import ConfigError
from tis_ray.inspection.parts import MENUS, details, find_parts, list_parts
from tis_ray.inspection.schemas import in_words
from tis_ray.menu import check_options, choices, pick


def keys_of_choices(section: type[BaseModel], prefix: str) -> set[str]:
    """Every key below `prefix` whose value is chosen from a menu."""
    found = set()
    for name, field in section.model_fields.items():
        kinds = get_args(field.annotation) if isinstance(field.annotation, types.UnionType) else (field.annotation,)
        for kind in kinds:
            if kind is Choice:
                found.add(f"{prefix}.{name}")
            elif inspect.isclass(kind) and issubclass(kind, BaseModel):
                found |= keys_of_choices(kind, f"{prefix}.{name}")
    return found


def test_every_choice_of_the_config_has_its_menu() -> None:
    found = keys_of_choices(DetectorSection, "detector") | keys_of_choices(DataSection, "data")
    assert {key for menu in MENUS for key in menu.keys} == found


def test_every_part_is_listed_once_with_a_summary() -> None:
    parts = list_parts()
    assert [(part.menu, part.name) for part in parts] == [
        (menu, name) for menu in MENUS for name in choices(menu.package)
    ]
    assert all(part.summary.endswith(".") and "\n" not in part.summary for part in parts)


def test_defaults_are_those_of_the_config() -> None:
    section = DetectorSection(backbone=Choice(name="resnet18"))
    chosen = {"detector.neck": section.neck, "detector.anchors": section.anchors, "detector.box.head": section.box.head}
    chosen |= {"detector.mask.pooling": section.mask.pooling, "detector.mask.head": section.mask.head}
    chosen |= {"data.sampling": Choice(name="every")}
    defaults = {part.menu.key: part.name for part in list_parts() if part.default}
    assert {key: defaults[key] for key in chosen} == {key: choice.name for key, choice in chosen.items()}
    assert "detector.backbone" not in defaults


def test_the_list_imports_no_pytorch() -> None:
    code = "import sys; from tis_ray.inspection.parts import list_parts; list_parts(); print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


@pytest.mark.parametrize("part", list_parts(), ids=lambda part: f"{part.menu.folder}.{part.name}")
def test_defaults_of_options_are_accepted_by_the_config(part: Any) -> None:
    shown = details(part).to_json()
    build = pick(part.menu.package, "build", part.name, key="test")
    check_options(build, {option["name"]: option["default"] for option in shown["options"]}, key="test")
    assert json.loads(json.dumps(shown)) == shown
    assert shown["builds"]


def test_options_are_told_with_types_and_defaults() -> None:
    (part,) = find_parts("resnet50")
    told = {option.name: (option.values, option.default) for option in details(part).options}
    assert told["eps"] == ("number >= 0", "1e-05")
    assert told["stem"][0].split(" | ")[0] == "7x7"


def test_a_menu_or_its_key_stands_for_all_of_its_parts() -> None:
    assert find_parts("necks") == find_parts("detector.neck")
    assert find_parts("roi_pooling") == find_parts("detector.mask.pooling") == find_parts("detector.box.pooling")
    assert {part.name for part in find_parts("necks")} == set(choices("tis_ray.models.necks"))


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="got 'resnet5'; did you mean 'resnet50'"):
        find_parts("resnet5")


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        pytest.param(Literal["a", "b"] | None, "a | b | null", id="names"),
        pytest.param(Literal["a"], "a", id="one name"),
        pytest.param(Literal["a", False], "a | false", id="names and values"),
        pytest.param(Annotated[float, Field(gt=0, le=1)], "number > 0 and <= 1", id="bounds"),
        pytest.param(tuple[tuple[int, ...], ...], "list of list of integer", id="lists"),
        pytest.param(tuple[int, float], "[integer, number]", id="pair"),
        pytest.param(list[int | None], "list of (integer | null)", id="bracketed"),
        pytest.param(dict[str, bool], "mapping to boolean", id="mapping"),
        pytest.param(Any, "anything", id="anything"),
    ],
)
def test_types_in_words(annotation: Any, words: str) -> None:
    assert in_words(TypeAdapter(annotation).json_schema()) == words
