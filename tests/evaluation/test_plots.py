"""Pictures of figures have the size that they need, whatever there is to draw."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tis_ray.errors import ConfigError
from tis_ray.evaluation.plots import anchor_recall_curves, check_picture, reliability_diagrams
from tis_ray.evaluation.reliability import reliability


@pytest.mark.parametrize(("members", "columns", "rows"), [(1, 1, 1), (3, 3, 1), (5, 4, 2)])
def test_a_panel_for_each_member(tmp_path: Path, members: int, columns: int, rows: int) -> None:
    scores = np.linspace(0, 1, 50, dtype=np.float32)
    pair = (reliability(scores, scores > 0.5), reliability(scores, scores > 0.7))
    nothing = (reliability(scores[:0], scores[:0] > 0),) * 2
    panels = {f"member {i}": pair for i in range(members - 1)} | {"last": nothing}
    reliability_diagrams(panels, tmp_path / "picture.png")
    picture = Image.open(tmp_path / "picture.png")
    assert picture.size == (pytest.approx(408 * columns, abs=1), pytest.approx(551 * rows, abs=2))
    assert len(picture.convert("RGB").getcolors(1 << 20)) > 2


@pytest.mark.parametrize("scales", [[20.0], [8.0, 8, 8], [0.3, 16, 3000]])
def test_recall_of_anchors_is_drawn_for_any_number_of_objects(tmp_path: Path, scales: list[float]) -> None:
    ious = {"one": np.full(len(scales), 0.6), "two": np.full(len(scales), 0.2)}
    anchor_recall_curves(np.array(scales), ious, tmp_path / "recall.png")
    with Image.open(tmp_path / "recall.png") as picture:
        assert picture.size == (pytest.approx(898, abs=1), pytest.approx(734, abs=1))
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10


def test_a_file_that_is_no_picture_is_refused() -> None:
    check_picture(Path("a.PNG"), key="--plot")
    with pytest.raises(ConfigError, match=r"^--plot: expected a file of .*\.png.*; got a\.txt$"):
        check_picture(Path("a.txt"), key="--plot")
