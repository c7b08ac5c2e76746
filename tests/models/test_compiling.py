"""Compiled features: the same losses and gradients, for every size of batch, and the names of weights stay."""

import copy
import shutil

import pytest
import torch

from tests.tiny import CATEGORIES, TINY_DETECTOR, tiny_recipe
from tis_ray.config import DetectorSection, parse
from tis_ray.errors import ConfigError
from tis_ray.models.assembly import build_detector
from tis_ray.models.compiling import compile_features
from tis_ray.models.detector import Detector

# Of PyTorch's compiler: of itself and of older names that it still uses.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def detector() -> Detector:
    torch.manual_seed(0)
    return build_detector(parse(DetectorSection, TINY_DETECTOR, source="test"), CATEGORIES).train()


def check(plain: Detector, compiled: Detector) -> None:
    """By features alone: regions are chosen by them, and the last bits of a score may choose others."""
    assert list(compiled.state_dict()) == list(plain.state_dict())
    pictures = torch.randn(2, 3, 128, 192, generator=torch.Generator().manual_seed(0))
    chance = torch.Generator().manual_seed(1)
    expected = plain.features(pictures)
    weights = {name: torch.randn(level.shape, generator=chance) for name, level in expected.items()}
    found = compiled.look([torch.zeros(3, 128, 192, dtype=torch.uint8)] * 2)  # as training has it
    assert found.features.keys() == expected.keys()
    found = compiled.compiled(pictures)
    for name, level in expected.items():
        torch.testing.assert_close(found[name], level, atol=1e-4, rtol=1e-3, msg=name)
    for features in (expected, found):
        sum((features[name] * weights[name]).mean() for name in features).backward()
    for (name, parameter), twin in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        if name.startswith(("backbone", "neck")):  # one ReLU whose sum is 0 but for rounding moves a gradient by 5%
            assert (twin.grad - parameter.grad).norm() < 0.1 * parameter.grad.norm() + 1e-4, name


def test_traced_features_learn_what_plain_ones_do():
    """Without kernels of its own, so that it takes seconds."""
    plain = detector()
    compiled = copy.deepcopy(plain)
    compile_features(compiled, backend="aot_eager")
    check(plain, compiled)


def test_recomputed_activations_are_not_compiled():
    resources = {"compile": True, "activation_checkpointing": True}
    with pytest.raises(ConfigError, match="resources: expected compile or activation_checkpointing; got both"):
        tiny_recipe(resources=resources)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch compiles for a CPU by g++, which is not there")
def test_compiled_features_learn_what_plain_ones_do():
    plain = detector()
    compiled = copy.deepcopy(plain)
    compile_features(compiled)
    check(plain, compiled)


def test_sizes_of_training_batches_are_rounded_up_to_buckets():
    model = detector()
    model.size_bucket_px = 128
    images = [torch.zeros(3, 64, 130, dtype=torch.uint8), torch.zeros(3, 129, 96, dtype=torch.uint8)]
    assert model._batch(images).tensors.shape[-2:] == (256, 256)
    assert model.eval()._batch(images).tensors.shape[-2:] == (160, 160)


def test_evaluation_is_not_compiled():
    model = detector().eval()
    model.compiled = lambda pictures: pytest.fail("compiled")
    with torch.no_grad():
        model([torch.zeros(3, 64, 64, dtype=torch.uint8)])
