"""Compiled features: the same losses and gradients, for every size of batch, and the names of weights stay."""

import copy
import shutil

import pytest
import torch

from tests.models.test_freezing import losses_of
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
    assert list(compiled.state_dict()) == list(plain.state_dict())
    found, expected = losses_of(compiled), losses_of(plain)
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss, atol=1e-4, rtol=1e-3, msg=name)
    for losses in (found, expected):
        torch.stack(list(losses.values())).sum().backward()
    for (name, parameter), twin in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(twin.grad, parameter.grad, atol=1e-4, rtol=1e-2, msg=name)


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
