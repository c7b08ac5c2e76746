"""Which layers have rows for each class: whoever builds such a layer says so, whoever moves weights asks.

Sizes tell nothing: a layer of 84 rows may hold 20 boxes and background's, or 84 of anything.
"""

from typing import NamedTuple, TypeVar

from torch import nn

BACKGROUND = "background"
Layer = TypeVar("Layer", bound=nn.Module)


class ClassRows(NamedTuple):
    """What the first dimension of a layer's weight and bias stands for.

    shared:   the rows that belong to no class, by name; they come first, those of the classes follow in label order
    width:    numbers in a row
    relative: whether a class's row means something only beside background's, as in a softmax
    """

    shared: tuple[str, ...] = ()
    width: int = 1
    relative: bool = False


def with_class_rows(layer: Layer, rows: ClassRows) -> Layer:
    """The same layer, which now says what its rows are."""
    layer.class_rows = rows
    return layer


def class_rows(model: nn.Module) -> dict[str, ClassRows]:
    """The layers within `model` that said so, by name."""
    named = ((name, getattr(layer, "class_rows", None)) for name, layer in model.named_modules())
    return {name: rows for name, rows in named if rows is not None}
