"""What every config section shares: frozen, no unknown keys, and choices from menus."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_serializer

Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of every config section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Choice(Section):
    """One entry of a menu folder with its options; in YAML `name` or `name: {option: value}`."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @model_serializer
    def _write(self) -> str | dict[str, Any]:
        return {self.name: self.options} if self.options else self.name


def _read_choice(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and len(value) == 1:
        ((name, options),) = value.items()
        return {"name": name, "options": options or {}}
    if isinstance(value, dict) and set(value) == {"name", "options"}:
        return value
    if isinstance(value, Choice):
        return value
    raise ValueError("expected a name, or one name with its options as in 'nms: {iou_threshold: 0.5}'")


Part = Annotated[Choice, BeforeValidator(_read_choice)]
