"""`tis-ray calibrate` on untrained members, and on results files, as a user calls it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import tis_ray
from tests.calibration.scenes import ENSEMBLE, write_folder
from tests.tiny import CATEGORIES
from tis_ray.calibration.fitting import fit_members
from tis_ray.calibration.members import found_by_members
from tis_ray.cli import main
from tis_ray.config import load_ensemble
from tis_ray.errors import ConfigError
from tis_ray.formats import coco
from tis_ray.formats.coco_results import to_results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrate")
    write_folder(folder)
    return folder


@pytest.fixture
def calibrate(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command in `folder`; gives exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setattr(sys, "argv", ["tis-ray", "calibrate", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        told = capsys.readouterr()
        return int(str(exit_.value.code)), told.out, told.err

    return call


def test_members_are_calibrated_and_the_ensemble_still_loads(folder: Path, calibrate) -> None:
    code, out, err = calibrate("ensemble.yaml", "--data", "gt.json", "--per-class", "--plot", "plots/reliability.png")
    assert code == 0, err
    written = folder / "ensemble.calibrated.yaml"
    members = load_ensemble(written).fusion.members
    assert members.keys() == {"one", "two"}
    for name, member in members.items():
        assert member.calibration is not None
        assert {*member.class_calibration} < {*CATEGORIES.names}
        assert name in out
    assert all(word in out for word in ("platt", "slope", "ECE", "NLL", "→", "ensemble.calibrated.yaml"))
    assert "one: " in err
    assert "classes go by the member's own: " in err
    assert (folder / "plots/reliability.png").stat().st_size > 10_000
    assert (folder / "ensemble.yaml").read_text() == ENSEMBLE
    pixels = np.random.default_rng(1).integers(0, 256, (80, 112, 3), dtype=np.uint8)
    plain, calibrated = tis_ray.load(folder / "ensemble.yaml"), tis_ray.load(written)
    assert not np.array_equal(plain.predict(pixels).scores, calibrated.predict(pixels).scores)
    written.unlink()


def test_sizes_that_a_view_may_not_speak_for_are_left_out(folder: Path) -> None:
    content = yaml.safe_load(ENSEMBLE)
    dataset = coco.read(folder / "gt.json")
    num_found = {}
    for ranges in ({}, {"@64": [0, 1]}):
        content["fusion"]["ranges"] = ranges
        (folder / "ranged.yaml").write_text(yaml.safe_dump(content))
        fits = fit_members(found_by_members(tis_ray.load(folder / "ranged.yaml"), dataset), dataset.categories)
        num_found[len(ranges)] = {name: len(fit.scores) for name, fit in fits.items()}
    assert num_found[0] == {"one": 3 * 4 * 10, "two": 3 * 10}
    assert num_found[1] == {"one": 3 * 2 * 10, "two": 0}


def test_classes_are_joined_by_name(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "gt.json").read_text())
    renamed = [{**one, "id": 100 - one["id"]} for one in content["categories"]]
    moved = [{**one, "category_id": 100 - one["category_id"]} for one in content["annotations"]]
    (tmp_path / "gt.json").write_text(json.dumps({**content, "categories": renamed, "annotations": moved}))
    ensemble = tis_ray.load(folder / "ensemble.yaml")
    truths = [coco.read(folder / "gt.json"), coco.read(tmp_path / "gt.json", folder)]
    assert truths[0].categories.names != truths[1].categories.names
    fits = [fit_members(found_by_members(ensemble, truth), truth.categories) for truth in truths]
    assert fits[0]["one"].calibration == fits[1]["one"].calibration


def test_a_data_set_of_other_classes_is_refused(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "gt.json").read_text())
    (tmp_path / "gt.json").write_text(
        json.dumps({**content, "annotations": [], "categories": [{"id": 1, "name": "tram"}]})
    )
    found = found_by_members(tis_ray.load(folder / "ensemble.yaml"), coco.read(tmp_path / "gt.json", folder))
    with pytest.raises(ConfigError, match=r"^--data: expected some of the ensemble's \(car, person, bus\); got tram$"):
        next(iter(found))


def write_results(folder: Path) -> dict[str, Path]:
    """What each view finds, as results files."""
    ensemble, dataset = tis_ray.load(folder / "ensemble.yaml"), coco.read(folder / "gt.json")
    lines: dict[str, list] = {view.name: [] for view in ensemble.views}
    for record in dataset.images:
        for view, found in ensemble.predict_views(tis_ray_image(record.path)).items():
            lines[view.name] += to_results(
                found, image_id=record.id, categories=CATEGORIES, size_hw=(record.height, record.width)
            )
    for name, results in lines.items():
        (folder / f"{name.replace('/', '-')}.json").write_text(json.dumps(results))
    return {name: folder / f"{name.replace('/', '-')}.json" for name in lines}


def tis_ray_image(path: Path) -> np.ndarray:
    from tis_ray.formats.images import open_image

    return open_image(path)


def test_results_files_give_what_the_members_give(folder: Path, calibrate) -> None:
    entries = {
        name.replace("@", "_").replace("/", "_"): {
            "file": path.name,
            "member": name.partition("@")[0],
            "scale": int(name.partition("@")[2].partition("/")[0]),
            "flip": name.endswith("flip"),
        }
        for name, path in write_results(folder).items()
    }
    (folder / "files.yaml").write_text("# Files.\n" + yaml.safe_dump({"results": entries, "fusion": "tis"}))
    options = ("--data", "gt.json", "--method", "platt")
    assert calibrate("files.yaml", *options, "--out", "files.out.yaml")[0] == 0
    assert calibrate("ensemble.yaml", *options, "--out", "ensemble.out.yaml")[0] == 0
    by_files, by_members = (
        yaml.safe_load((folder / f"{name}.out.yaml").read_text())["fusion"] for name in ("files", "ensemble")
    )
    assert by_files["preset"] == "tis"
    assert by_files["members"].keys() == by_members["members"].keys() == {"one", "two"}
    for name, member in by_members["members"].items():
        for option, value in member["calibration"]["platt"].items():
            found = by_files["members"][name]["calibration"]["platt"][option]
            assert found == pytest.approx(value, rel=1e-3)  # results files round
    assert (folder / "files.out.yaml").read_text().startswith("# Files.\nfusion:\n")


MISTAKES = {
    "method": (["--method", "plat"], "; got 'plat'; did you mean 'platt'?"),
    "iou": (["--iou", "1.5"], "--iou: expected a number above 0 and at most 1; got 1.5"),
    "another folder": (["--out", "sub/ensemble.yaml"], "--out: expected a file in "),
    "a folder": (["--out", "folder.yaml"], "--out: expected a file; folder.yaml is a folder"),
    "no YAML": (["--out", "two.json"], "--out: expected a .yaml file; got two.json"),
    "the data": (["--data", "gt.yaml", "--out", "./gt.yaml"], "--out: expected another file than --data; got gt.yaml"),
    "a folder of pictures": (["--plot", "folder.png"], "--plot: expected a file; folder.png is a folder"),
    "no picture": (["--plot", "plot.txt"], "--plot: expected a file of "),
    "no data": (["--data", "none.json"], "none.json"),
    "no images": (["--data", "empty.json"], "--data: expected at least one image; empty.json has none"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_exit_2_with_one_line(folder: Path, calibrate, arguments: list[str], message: str) -> None:
    (folder / "empty.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    for name in ("folder.yaml", "folder.png"):
        (folder / name).mkdir(exist_ok=True)
    code, _, err = calibrate("ensemble.yaml", "--data", "gt.json", *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not (folder / "ensemble.calibrated.yaml").exists()


def test_a_file_that_cannot_be_rewritten_is_refused_before_the_work(folder: Path, calibrate) -> None:
    members = "one: &same {weight: 2}, two: *same"
    text = ENSEMBLE.replace("fusion:", f"fusion:\n  members: {{{members}}}").replace(
        "checkpoint: one", "checkpoint: nowhere"
    )
    (folder / "shared.yaml").write_text(text)
    code, _, err = calibrate("shared.yaml", "--data", "gt.json")
    assert code == 2
    assert "shared.yaml: expected members that stand for themselves; got YAML anchors" in err


def test_where_nothing_can_be_fitted_nothing_is_written(folder: Path, calibrate) -> None:
    content = json.loads((folder / "gt.json").read_text())
    (folder / "bare.json").write_text(json.dumps({**content, "annotations": []}))
    code, out, err = calibrate("ensemble.yaml", "--data", "bare.json", "--out", "bare.yaml")
    assert (code, out) == (2, "")
    assert "--data: expected hits and misses of some member to fit on; got one: no hits; two: no hits" in err
    assert not (folder / "bare.yaml").exists()


def test_nothing_is_written_over_unasked(folder: Path, calibrate) -> None:
    (folder / "ensemble.calibrated.yaml").write_text("mine")
    code, _, err = calibrate("ensemble.yaml", "--data", "gt.json")
    assert code == 2
    assert "--out: ensemble.calibrated.yaml is there already; name it to write over it" in err
    assert (folder / "ensemble.calibrated.yaml").read_text() == "mine"
    (folder / "ensemble.calibrated.yaml").unlink()
