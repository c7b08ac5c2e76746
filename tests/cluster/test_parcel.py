"""What is sent with a job, and what stays here."""

from pathlib import Path

import pytest

import tis_ray
from tests.tiny import tiny_recipe
from tis_ray.cluster import parcel
from tis_ray.cluster.parcel import RECIPES, pack
from tis_ray.config import load_recipe
from tis_ray.errors import ConfigError


@pytest.fixture
def working_dir(tmp_path: Path) -> Path:
    """Code, and everything that lies about beside code."""
    folder = tmp_path / "work"
    contents = {
        "train_more.py": "code",
        "lib/parts.py": "code",
        "notes.md": "text",
        ".env": "SECRET=1",
        ".git/config": "git",
        ".venv/lib/x.py": "environment",
        "env/pyvenv.cfg": "home = /usr",
        "env/lib/y.py": "environment",
        "lib/__pycache__/parts.cpython-311.pyc": "cache",
        "runs/tiny/recipe.yaml": "run",
        "my_output/tiny/recipe.yaml": "run",
        "scenes/instances.json": "data",
        "scenes/readme.txt": "data",
        "maps/stuff/legend.txt": "data",
        "weights/r50.safetensors": "weights",
        "weights/r50.PTH": "weights",
        "street.JPG": "picture",
        "more.tar.gz": "archive",
        "tis_ray/old.py": "another tis_ray",
        "loose.json": "data of a recipe, beside the code",
        ".gitignore": "/private/\n*.local\n",
        "private/notes.md": "ignored by git",
        "lib/paths.local": "ignored by git",
        "lib/.rayignore": "sketch.py\n",
        "lib/sketch.py": "ignored by Ray",
        "server.pem": "key",
        "tis-ray-tokens.txt": "tokens",
        "Secrets.yaml": "secrets",
        "id_rsa": "key",
        "tokens.py": "code",
        "tokenizer.json": "no secret",
        "coco/recipe.yaml": "of a checkpoint",
    }
    for name, text in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "big.csv").write_bytes(b"0" * (parcel.MAX_FILE_BYTES + 1))
    (folder / "loop").symlink_to(folder)
    (tmp_path / "elsewhere.txt").write_text("not of this folder")
    (folder / "linked.txt").symlink_to(tmp_path / "elsewhere.txt")
    return folder


def test_code_goes_and_data_weights_secrets_and_caches_stay(working_dir: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        data={
            "train": {
                "annotations": str(working_dir / "scenes/instances.json"),
                "stuff": str(working_dir / "maps/stuff"),
            },
            "val": {"annotations": str(working_dir / "loose.json")},
        },
        start={"checkpoint": str(working_dir / "coco")},
        output=str(working_dir / "my_output"),
    )
    target = tmp_path / "parcel"
    target.mkdir()
    packed = pack(target, [recipe], working_dir=working_dir)
    sent = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    own = {name for name in sent if not name.startswith(("tis_ray/", RECIPES))}
    assert own == {"train_more.py", "lib/parts.py", "notes.md", "tokens.py", "tokenizer.json"}
    assert load_recipe(target / packed.recipes[0]) == recipe
    assert packed.num_files == len(sent)
    assert packed.num_bytes == sum((target / name).stat().st_size for name in sent)


def test_a_folder_within_a_repository_keeps_to_its_rules(working_dir: Path, tmp_path: Path) -> None:
    (working_dir / "lib" / "rules.py").write_text("code")
    (tmp_path / "parcel").mkdir()
    pack(tmp_path / "parcel", [tiny_recipe()], working_dir=working_dir / "lib")
    assert sorted(path.name for path in (tmp_path / "parcel").glob("*.*")) == ["parts.py", "rules.py"]


def test_a_home_folder_is_not_sent(working_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parcel").mkdir()
    for home in (working_dir, working_dir / "lib"):
        monkeypatch.setenv("HOME", str(home))
        with pytest.raises(ConfigError, match="--working-dir: expected a folder of code, an empty one will do; got"):
            pack(tmp_path / "parcel", [tiny_recipe()], working_dir=working_dir)
    assert not list((tmp_path / "parcel").iterdir())


def test_the_tis_ray_that_runs_here_is_sent_in_the_place_of_any_other(working_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "parcel"
    target.mkdir()
    pack(target, [tiny_recipe()], working_dir=working_dir)
    package = Path(tis_ray.__file__).parent
    expected = {path.relative_to(package) for path in package.rglob("*") if path.suffix in (".py", ".yaml", ".html")}
    sent = {path.relative_to(target / "tis_ray") for path in (target / "tis_ray").rglob("*") if path.is_file()}
    assert expected <= sent
    assert not any("__pycache__" in path.parts for path in sent)
    assert Path("old.py") not in sent


def test_too_much_is_refused_before_it_is_sent_naming_the_largest(
    working_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcel, "MAX_BYTES", 2**20)
    (working_dir / "dumps").mkdir()
    for i in range(3):
        (working_dir / "dumps" / f"{i}.csv").write_bytes(b"0" * 600_000)
    (tmp_path / "parcel").mkdir()
    with pytest.raises(ConfigError, match=r"--working-dir: expected at most 1 MiB .* most of it in dumps \(1 MiB\)"):
        pack(tmp_path / "parcel", [tiny_recipe()], working_dir=working_dir)


def test_a_working_dir_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--working-dir: expected a folder; got .*nowhere"):
        pack(tmp_path, [tiny_recipe()], working_dir=tmp_path / "nowhere")
