"""torchvision's public COCO detectors as checkpoint directories: an ensemble before any training.

The networks are torchvision's to the last option, its rounded anchors included, so that answers are the same where
the picture is not resized; where it is, torchvision does it without antialiasing and tis-ray with.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from tis_ray.config import Recipe, parse
from tis_ray.errors import CheckpointError, ConfigError
from tis_ray.instances import Categories
from tis_ray.models import checkpoint
from tis_ray.models.assembly import build_detector
from tis_ray.models.backbones._weights import read_state
from tis_ray.models.class_rows import class_rows
from tis_ray.models.detector import Detector
from tis_ray.models.torchvision_names import from_torchvision, to_torchvision, torchvision_name

# What torchvision builds for its COCO weights. The first ones were trained when frozen normalisation knew no eps.
DETECTORS: dict[str, dict[str, Any]] = {
    "maskrcnn_resnet50_fpn": {
        "backbone": {"resnet50": {"norm": "frozen", "eps": 0.0}},
        "anchors": "torchvision",
    },
    "maskrcnn_resnet50_fpn_v2": {
        "backbone": "resnet50",
        "neck": {"fpn": {"norm": "batch"}},
        "anchors": "torchvision",
        "rpn": {"convs": 2},
        "box": {"head": {"convs": {"norm": "batch"}}},
        "mask": {"head": {"convs": {"norm": "batch"}}},
    },
}
TEST_SETTINGS = {"scales": [800], "max_long_edge": 1333, "flip": False}


def import_weights(network: str, file: Path, out: Path) -> None:
    """Write the COCO weights of torchvision's `network` in `file` (.pth or .safetensors) as a checkpoint to `out`.

    Its `ensemble.yaml` asks for the one view that torchvision looks at.
    torchvision has rows for the background and 90 ids, 10 of which no class of COCO bears; only the other 81 rows are
    kept, which raises scores by whatever share those ids had. Raises `ConfigError` for an unknown network or a folder
    that holds something, `CheckpointError` for weights of another architecture.
    """
    if network not in DETECTORS:
        raise ConfigError(f"network: expected one of {', '.join(DETECTORS)}; got '{network}'")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out: expected a new or empty folder; {out} holds something")
    content = {"name": network, "detector": DETECTORS[network], "test": TEST_SETTINGS}
    recipe, categories = parse(Recipe, content, source=network), coco_categories()
    state = read_state(file)
    detector = build_detector(recipe.detector, categories)
    detector.load_state_dict(_fitting(state, detector, network=network, file=file))
    checkpoint.save(
        out,
        detector=detector,
        recipe=recipe,
        categories=categories,
        metrics={"imported": {"network": network, "file": file.name}},
    )


def coco_categories() -> Categories:
    """COCO's 80 classes under their own ids, 1 to 90 with gaps, as torchvision lists them."""
    named = {i: name for i, name in enumerate(_rows()) if name not in ("__background__", "N/A")}
    return Categories(tuple(named), tuple(named.values()))


def _rows() -> list[str]:
    """The name of each of torchvision's 91 rows."""
    names: list[str] = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return names


def _fitting(state: Mapping[str, Tensor], detector: Detector, *, network: str, file: Path) -> dict[str, Tensor]:
    """The weights under our names, without the rows of ids without a class; `CheckpointError` where they do not fit."""
    theirs = to_torchvision(from_torchvision(state))  # old names become today's
    own = to_torchvision(detector.state_dict())
    # What a row of each layer holds that has one for each class.
    widths = {torchvision_name(f"{layer}."): rows.width for layer, rows in class_rows(detector).items()}
    for key in sorted(own.keys() | theirs.keys()):
        expected = _all_rows(tuple(own[key].shape), widths.get(_layer(key))) if key in own else "nothing"
        came = tuple(theirs[key].shape) if key in theirs else "nothing"
        if came != expected and not key.endswith("num_batches_tracked"):  # training alone counts batches
            raise CheckpointError(
                f"{file}: expected torchvision's {network} with its {len(_rows())} COCO classes: "
                f"{key} should be {expected}; got {came}"
            )
    kept = torch.tensor([0, *coco_categories().ids])
    return from_torchvision(
        {key: _rows_of(theirs.get(key, value), widths.get(_layer(key)), kept) for key, value in own.items()}
    )


def _layer(key: str) -> str:
    return key[: key.rfind(".") + 1]


def _all_rows(shape: tuple[int, ...], width: int | None) -> tuple[int, ...]:
    """The shape of a weight of ours with torchvision's number of classes."""
    return shape if width is None else (len(_rows()) * width, *shape[1:])


def _rows_of(weight: Tensor, width: int | None, kept: Tensor) -> Tensor:
    """The rows of the classes `kept`, where the weight has any."""
    return weight if width is None else weight.unflatten(0, (-1, width))[kept].flatten(0, 1)
