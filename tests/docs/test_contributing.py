"""The parts that CONTRIBUTING.md adds for example work when they are pasted into their files, and pass the linter."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from tis_ray.instances import Instances
from tis_ray.menu import check_options

ROOT = Path(__file__).parents[2]
EXAMPLE = re.compile(r"`(tis_ray/[\w/]+\.py)`[^\n]*\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = dict(EXAMPLE.findall((ROOT / "CONTRIBUTING.md").read_text()))


def pasted(path: str, function: str) -> Callable[..., object]:
    module = ModuleType(Path(path).stem)
    exec(EXAMPLES[path], module.__dict__)
    found: Callable[..., object] = getattr(module, function)
    assert check_options(found, {}, key="example") == {}
    return found


def test_a_backbone_has_the_strides_and_channels_it_states() -> None:
    with torch.device("meta"):
        backbone = pasted("tis_ray/models/backbones/mobilenet_v3_large.py", "build")(norm="group")
        maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape[1:]) for level in maps] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(backbone.channels, (4, 8, 16, 32), strict=True)
    ]


def test_a_fusion_rule_keeps_the_best_of_each_class() -> None:
    merge = pasted("tis_ray/fusion/rules/keep_top.py", "merge")
    instances = Instances.of(np.arange(20.0).reshape(5, 4), [0.1, 0.9, 0.5, 0.3, 0.5], [0, 0, 0, 1, 0])
    kept = merge(instances, None, per_class=2)
    assert kept.boxes[:, 0].tolist() == [4, 8, 12]
    assert len(merge(instances[:0], None)) == 0


@pytest.mark.parametrize("path", EXAMPLES)
def test_an_example_passes_the_linter(path: str) -> None:
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", path, "-"]
        done = subprocess.run(ruff, cwd=ROOT, input=EXAMPLES[path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
