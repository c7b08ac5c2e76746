"""What a backbone's `weights` may say in a recipe: a file, or a name under which a library offers them."""

from pathlib import Path

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")


def is_weight_file(weights: str | Path) -> bool:
    """Whether `weights` is a file rather than a name: by its suffix, a slash in it, or because it is there."""
    if isinstance(weights, Path) or "/" in weights:
        return True
    return weights.lower().endswith(SUFFIXES) or Path(weights).is_file()
