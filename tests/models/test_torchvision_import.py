"""torchvision's COCO weights become an ensemble that answers as torchvision does."""

from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn
from typer.testing import CliRunner

import tis_ray
from tests.torchvision_twins import random_image, torchvision_model
from tis_ray.cli import app
from tis_ray.config import load_ensemble
from tis_ray.errors import CheckpointError, ConfigError
from tis_ray.formats.training_sizes import read_training_sizes
from tis_ray.models import checkpoint
from tis_ray.models.torchvision_import import DETECTORS, coco_categories, import_weights
from tis_ray.ops.rle import decode_crop
from tis_ray.training.run_folder import absolute

SIZE = (32, 48)
ABSENT = sorted(set(range(91)) - {0, *coco_categories().ids})


@pytest.fixture(scope="module", params=DETECTORS)
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, MaskRCNN, Path]:
    """A network of torchvision's that gives no score to ids without a class, and what the command made of its file."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    model = torchvision_model(name, 91).eval()
    with torch.no_grad():
        bias = model.roi_heads.box_predictor.cls_score.bias
        bias[0] += 5  # fewer detections, faster masks
        bias[ABSENT] = -1e4
    torch.save(model.state_dict(), folder / "weights.pth")
    answer = CliRunner().invoke(
        app, ["import", name, str(folder / "weights.pth"), "--out", str(folder / "coco")], catch_exceptions=False
    )
    assert answer.exit_code == 0
    return name, model, folder / "coco"


@torch.inference_mode()
def test_the_ensemble_answers_as_torchvision_does(
    imported: tuple[str, MaskRCNN, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, model, folder = imported
    image = random_image(*SIZE)
    monkeypatch.setattr(model.transform, "min_size", (min(SIZE),))
    (expected,) = model([image / 255])
    ensemble = load_ensemble(folder / "ensemble.yaml", [f"members.{name}.scales=[{min(SIZE)}]"])
    found = tis_ray.load(ensemble, device="cpu").predict(image.permute(1, 2, 0).numpy())
    assert len(found) >= 5
    assert len(np.unique(found.labels)) >= 3
    ids = np.array(coco_categories().ids)[found.labels]
    assert ids.tolist() == expected["labels"].tolist()
    np.testing.assert_allclose(found.scores, expected["scores"], atol=1e-4)
    np.testing.assert_allclose(found.boxes, expected["boxes"], atol=1e-3)
    masks = np.zeros((len(found), *SIZE), bool)
    for mask, rle in zip(masks, found.masks.to_rle(*SIZE), strict=True):
        crop, (x, y) = decode_crop(rle)
        mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    pasted = expected["masks"][:, 0].numpy()
    clear = abs(pasted - 0.5) > 2e-3  # patches travel as float16
    assert 0 < masks.mean() < 1
    assert (masks == (pasted >= 0.5))[clear].all()


def test_settings_are_torchvisions(imported: tuple[str, MaskRCNN, Path]) -> None:
    name, model, folder = imported
    detector, recipe, categories = checkpoint.load(folder)
    assert recipe.data is None
    rpn, heads = detector.rpn, detector.roi_heads
    (stage,) = heads.stages
    for theirs, ours in ((model.rpn, rpn), (model.roi_heads, heads)):
        assert theirs.fg_bg_sampler.batch_size_per_image == ours.samples_per_image
        assert (
            int(theirs.fg_bg_sampler.batch_size_per_image * theirs.fg_bg_sampler.positive_fraction)
            == ours.max_positives
        )
    assert model.roi_heads.box_coder.weights == stage.delta_weights
    assert heads.ious == (model.roi_heads.proposal_matcher.high_threshold,)
    counts = model.rpn._pre_nms_top_n, model.rpn._post_nms_top_n
    section = recipe.detector.rpn
    assert counts == (
        {"training": section.pre_nms_top_n_train, "testing": section.pre_nms_top_n_test},
        {"training": section.post_nms_top_n_train, "testing": section.post_nms_top_n_test},
    )
    assert section.nms_iou_train == section.nms_iou_test == model.rpn.nms_thresh
    limits = heads.postprocess
    assert (limits.score_threshold, limits.nms_iou, limits.max_instances) == (
        model.roi_heads.score_thresh,
        model.roi_heads.nms_thresh,
        model.roi_heads.detections_per_img,
    )
    (member,) = load_ensemble(folder / "ensemble.yaml").members.values()
    assert (
        (*member.scales, member.max_long_edge) == (800, 1333) == (*model.transform.min_size, model.transform.max_size)
    )
    assert (len(categories), categories.names[0], categories.names[-1], categories.ids[-1]) == (
        80,
        "person",
        "toothbrush",
        90,
    )
    assert orjson.loads((folder / "metrics.json").read_bytes()) == {
        "imported": {"network": name, "file": "weights.pth"}
    }
    assert read_training_sizes(folder) is None


def test_training_on_it_needs_data(imported: tuple[str, MaskRCNN, Path]) -> None:
    _, recipe, _ = checkpoint.load(imported[2])
    with pytest.raises(ConfigError, match=r"data\.train: expected what maskrcnn_resnet50_fpn.* is to be trained on"):
        absolute(recipe)


def test_only_a_new_or_empty_folder_is_written(imported: tuple[str, MaskRCNN, Path]) -> None:
    name, _, folder = imported
    with pytest.raises(ConfigError, match=r"--out: expected a new or empty folder; .*coco holds something"):
        import_weights(name, folder.parent / "weights.pth", folder)


def test_unknown_network_is_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"network: expected one of maskrcnn_resnet50_fpn, .*_v2; got 'maskrcnn'"):
        import_weights("maskrcnn", tmp_path / "x.pth", tmp_path / "out")


def test_weights_of_the_other_network_are_refused_by_their_first_key(imported: tuple[str, MaskRCNN, Path]) -> None:
    name, _, folder = imported
    (other,) = DETECTORS.keys() - {name}
    with pytest.raises(
        CheckpointError, match=rf"weights\.pth: expected torchvision's {other} .*: backbone\.fpn\.\S+ should be .*; got"
    ):
        import_weights(other, folder.parent / "weights.pth", folder.parent / "none")
    assert not (folder.parent / "none").exists()


def test_counters_of_batches_are_not_needed(imported: tuple[str, MaskRCNN, Path], tmp_path: Path) -> None:
    name, model, folder = imported
    state = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "w.safetensors")
    import_weights(name, tmp_path / "w.safetensors", tmp_path / "out")
    first, again = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "out"))
    assert all(torch.equal(first[key], again[key]) for key in first if not key.endswith("num_batches_tracked"))


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    name = "maskrcnn_resnet50_fpn"
    state = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"bbox_pred\.bias should be \(364,\); got \(16,\)"):
        import_weights(name, tmp_path / "w.safetensors", tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (resnet18().state_dict(), r"backbone\.body\.bn1\.bias should be \(64,\); got nothing"),
        ({"model": {}, "epoch": 3}, r"expected a readable state dict in .*w\.pth; got something else"),
        (torch.zeros(3), r"expected a readable state dict in .*w\.pth; got something else"),
    ],
    ids=["a classifier", "a training checkpoint", "a tensor"],
)
def test_other_files_are_refused(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=message):
        import_weights("maskrcnn_resnet50_fpn", tmp_path / "w.pth", tmp_path / "out")
