"""ImageNet weights of a classification network, from a file or by name, into a backbone."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import PlainValidator
from safetensors.torch import load_file
from torch import Tensor, nn

from tis_ray.config.weights import is_weight_file
from tis_ray.errors import CheckpointError, ConfigError
from tis_ray.models.backbones._weight_names import PACKAGE, check_name, fetched, package_file

State = Mapping[str, Tensor]
HEAD = ("fc.", "classifier.")


def _file_or_name(weights: Any) -> Any:
    if weights is None or (isinstance(weights, str | Path) and str(weights)):
        return weights
    raise ValueError("expected a file, a name or null")


# A file, a name as `check_name` tells, or null for random weights.
Weights = Annotated[Path | str | None, PlainValidator(_file_or_name, json_schema_input_type=str | None)]


def check_weights(weights: Any, network: str, *, key: str) -> None:
    """Raise `ConfigError` where `weights` is no file, no name of weights of `network` and not None.

    Nothing is read, fetched or built: whether a file is there is not asked.
    """
    try:
        weights = _file_or_name(weights)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}; got {weights!r}") from None
    if weights is not None and not is_weight_file(weights):
        check_name(weights, network, key=key)


def read_weights(weights: Path | str, network: str) -> dict[str, Tensor]:
    """The tensors that `weights`, a file or a name, has for torchvision's or timm's classification network `network`.

    Raises `ConfigError` for an unknown name, `CheckpointError` where the tensors cannot be read or fetched.
    """
    check_weights(weights, network, key="weights")
    if is_weight_file(weights):
        return read_state(Path(weights))
    return read_state(package_file(network)) if weights == PACKAGE else fetched(str(weights), network)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file or of a `.pth` state dict, read without unpickling objects."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError("something else than names and tensors")
        return state
    except Exception as error:
        raise CheckpointError(f"weights: expected a readable state dict in {path}; got {error}") from None


def load_state(
    network: nn.Module, state: State, *, source: Path | str, stays_fresh: Callable[[str], bool] = lambda _: False
) -> None:
    """Copy a classification network's tensors into `network` by name.

    The classifier may be absent or of another size, and keys for which `stays_fresh` keep what they have; anything
    else that does not fit raises `CheckpointError` naming `source`.
    """
    own = network.state_dict()

    def matters(key: str) -> bool:
        return not (key.startswith(HEAD) or key.endswith("num_batches_tracked") or stays_fresh(key))

    wrong = [
        f"{key}: expected {_shape(own, key)}, got {_shape(state, key)}"
        for key in sorted(own.keys() | state.keys())
        if matters(key) and _shape(own, key) != _shape(state, key)
    ]
    if wrong:
        raise CheckpointError(f"{source}: {len(wrong)} weights do not fit {type(network).__name__}; first {wrong[0]}")
    fitting = {k: v for k, v in state.items() if not stays_fresh(k) and _shape(own, k) == _shape(state, k)}
    network.load_state_dict(fitting, strict=False)


def _shape(state: State, key: str) -> str:
    return str(tuple(state[key].shape)) if key in state else "nothing"


def named_by_order(state: State, own: State, *, source: Path | str) -> State:
    """`state` under the names of `own`, where it has other names for the same tensors in the same order.

    A state that shares names with `own` comes back as it is. Raises `CheckpointError` where a tensor has not the
    kind (the last part of its name) and, the classifier aside, the shape of the one in its place.
    """
    if state.keys() & own.keys():
        return state
    if len(state) != len(own):
        raise CheckpointError(f"{source}: expected {len(own)} tensors in the network's order; got {len(state)}")
    for key, name in zip(state, own, strict=True):
        same_kind = key.rpartition(".")[2] == name.rpartition(".")[2]
        if not same_kind or (_shape(state, key) != _shape(own, name) and not name.startswith(HEAD)):
            raise CheckpointError(
                f"{source}: expected {name} {_shape(own, name)} in the network's order; got {key} {_shape(state, key)}"
            )
    return dict(zip(own, state.values(), strict=True))
