"""Compiled graphs of testing: made while warming up and never later, and the answers stay."""

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from tests.inference.test_together import assert_near, pictures
from tis_ray.errors import ConfigError
from tis_ray.inference.asked import Asked
from tis_ray.inference.predictor import Predictor
from tis_ray.instances import Instances
from tis_ray.views import View

# Of PyTorch's compiler: of itself and of older names that it still uses.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
VIEWS = [View("m", 64), View("m", 64, flip=True)]
SIZE = (80, 112)
NEEDS_A_COMPILER = pytest.mark.skipif(
    shutil.which("g++") is None, reason="PyTorch compiles for a CPU by g++, which is not there"
)


def compiled(folder: Path, *, backend: str = "eager", **options: Any) -> Predictor:
    """Traced, and by default run without kernels of its own, which takes seconds less."""
    torch.compiler.reset()
    predictor = Predictor.from_checkpoint(folder, device="cpu", **options.pop("predictor", {}))
    predictor.compile(backend=backend, **options)
    return predictor


def num_graphs() -> int:
    return counters["stats"]["unique_graphs"]


def assert_all_near(found: list[Instances], expected: list[Instances]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert len(other) > 3
        assert_near(one, other)


def test_graphs_are_made_while_warming_up_and_never_for_a_request(tiny_checkpoint: Path) -> None:
    predictor = compiled(tiny_checkpoint)
    plain = Predictor.from_checkpoint(tiny_checkpoint, device="cpu")
    before = num_graphs()
    predictor.warm_up([SIZE], VIEWS)
    assert num_graphs() == before + 1
    assert predictor.detector.graphs.sizes == {(2, 3, 64, 96)}
    (picture,) = pictures(1)
    found: list[list[Instances]] = []
    ask = threading.Thread(  # as in a service, whose forwards have a thread of their own
        target=lambda: found.extend(predictor.predict(one, VIEWS) for one in (picture, picture[:, :70]))
    )
    ask.start()
    ask.join()
    assert num_graphs() == before + 1
    assert_all_near(found[0], plain.predict(picture, VIEWS))
    assert_all_near(found[1], plain.predict(picture[:, :70], VIEWS))


def test_one_picture_or_as_many_as_may_share_a_forward_and_nothing_in_between(tiny_checkpoint: Path) -> None:
    predictor = compiled(tiny_checkpoint, predictor={"batch_px": 6 * 64 * 90})
    predictor.share = True
    predictor.warm_up([SIZE], VIEWS)
    assert predictor.detector.graphs.sizes == {(2, 3, 64, 96), (6, 3, 64, 96)}
    seen: list[int] = []
    hook = predictor.detector.rpn.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0].tensors)))
    asked = [Asked(one) for one in pictures(5)]
    together, before = predictor.predict_together(asked, VIEWS), num_graphs()
    hook.remove()
    assert seen == [6, 2, 2]
    assert num_graphs() == before
    for one, found in zip(asked, together, strict=True):
        assert_all_near(found, Predictor.from_checkpoint(tiny_checkpoint, device="cpu").predict(one.image, VIEWS))


def test_sizes_of_one_bucket_share_a_graph_and_lie_where_they_did(tiny_checkpoint: Path) -> None:
    predictor = compiled(tiny_checkpoint, bucket_px=128)
    predictor.warm_up([SIZE, (80, 100), (70, 112)], VIEWS)
    assert predictor.detector.graphs.sizes == {(2, 3, 128, 128)}
    for found in predictor.predict(pictures(1)[0], VIEWS):
        assert (found.boxes >= 0).all()
        assert (found.boxes <= np.array([112, 80, 112, 80]) + 1e-3).all()


def test_masks_come_from_what_a_graph_made(tiny_checkpoint: Path) -> None:
    predictor = compiled(tiny_checkpoint)
    predictor.warm_up([SIZE], VIEWS)
    (picture,) = pictures(1)
    own, _ = predictor.predict(picture, VIEWS, remember="key")
    recalled, _ = predictor.predict_masks(picture, own.boxes, own.labels, VIEWS, recall="key")
    np.testing.assert_allclose(recalled.probabilities, own.masks.probabilities, rtol=0, atol=1e-2)


def test_a_compiler_that_fails_says_so_at_the_start(tiny_checkpoint: Path) -> None:
    def broken(graph: object, inputs: object) -> None:
        raise RuntimeError("no such compiler\nand a long story")

    predictor = compiled(tiny_checkpoint, backend=broken)
    with pytest.raises(
        ConfigError, match=r"^inference\.compile: expected a working compiler.*; got .*no such compiler"
    ):
        predictor.warm_up([SIZE], VIEWS)
    assert len(predictor.predict(pictures(1)[0], VIEWS)[0]) > 3


def test_without_graphs_a_warm_up_is_a_run_of_every_view(tiny_checkpoint: Path) -> None:
    predictor = Predictor.from_checkpoint(tiny_checkpoint, device="cpu")
    seen: list[tuple[int, ...]] = []
    hook = predictor.detector.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2:]))
    predictor.warm_up([(40, 40), SIZE], [View("m", 64), View("m", 32)])
    hook.remove()
    assert set(seen) == {(64, 96), (32, 64), (64, 64), (32, 32)}
    assert seen[0] == (64, 96)


# --------------------------------------------------------------------------------------------------- The real compiler

RESTART = """
import sys, time
from pathlib import Path
from tests.inference.test_compiled import SIZE, VIEWS, compiled
predictor = compiled(Path(sys.argv[1]), backend="inductor", cache=Path(sys.argv[2]))
start = time.perf_counter()
predictor.warm_up([SIZE], VIEWS)
from torch._dynamo.utils import counters
hits = counters["inductor"]["fxgraph_cache_hit"], counters["aot_autograd"]["autograd_cache_hit"]
print(time.perf_counter() - start, *hits)
"""


@pytest.mark.slow
@NEEDS_A_COMPILER
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_compiled_answers_are_the_plain_ones(tiny_checkpoint: Path, precision: str) -> None:
    """In float32 within 0.01 px and 0.00001 of a score."""
    options = {"precision": precision}
    predictor = compiled(tiny_checkpoint, backend="inductor", predictor=options)
    predictor.warm_up([SIZE], VIEWS)
    plain = Predictor.from_checkpoint(tiny_checkpoint, device="cpu", **options)
    (picture,) = pictures(1)
    found, expected = predictor.predict(picture, VIEWS), plain.predict(picture, VIEWS)
    if precision == "float32":
        assert_all_near(found, expected)
    else:
        for one, other in zip(found, expected, strict=True):
            assert len(one) == pytest.approx(len(other), rel=0.1)
            np.testing.assert_allclose(np.sort(one.scores), np.sort(other.scores), rtol=0, atol=0.02)


@pytest.mark.slow
@NEEDS_A_COMPILER
def test_a_restart_takes_its_graphs_from_the_cache(tiny_checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", RESTART, str(tiny_checkpoint), str(tmp_path / "cache")]
    told = []
    for _ in range(2):
        start = time.perf_counter()
        run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
        told.append([float(one) for one in run.stdout.split()])
        print(f"warm-up {told[-1][0]:.1f} s, process {time.perf_counter() - start:.1f} s")
    (cold_s, *missed), (warm_s, *hit) = told
    assert sum(missed) == 0
    assert sum(hit) > 0
    assert warm_s < cold_s
