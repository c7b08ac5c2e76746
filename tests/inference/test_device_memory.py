"""Replicas that share a GPU keep to their part of its memory."""

import pytest
import torch

from tis_ray.inference.device_memory import CONTEXT_BYTES, fraction_of, keep_to_share, peak_bytes

GIB = 2**30


@pytest.mark.parametrize("total_gib", [16, 80, 140])
@pytest.mark.parametrize("replicas", [2, 3, 8])
def test_tensors_and_contexts_of_all_that_share_a_gpu_fit_into_it(total_gib: int, replicas: int) -> None:
    total = total_gib * GIB
    tensors = fraction_of(1 / replicas, total) * total
    assert tensors > 0
    assert replicas * (tensors + CONTEXT_BYTES) <= total * (1 + 1e-9)


def test_a_share_of_less_than_a_context_is_still_a_fraction() -> None:
    assert 0 < fraction_of(0.01, 8 * GIB) <= 1


def test_a_cpu_has_nothing_to_keep_to() -> None:
    keep_to_share("cpu", 0.5)
    assert peak_bytes("cpu") is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_replica_that_needs_more_than_its_share_fails_by_itself() -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        keep_to_share("cuda", 0.1)
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(int(0.2 * total), dtype=torch.uint8, device="cuda")
        torch.empty(int(0.02 * total), dtype=torch.uint8, device="cuda")
        assert (peak_bytes("cuda") or 0) >= int(0.02 * total)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
