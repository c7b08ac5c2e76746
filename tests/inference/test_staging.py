"""What goes to the device and comes back: the same values, in arrays of their own."""

import numpy as np
import pytest
import torch

from tis_ray.inference.staging import to_device, to_host

CPU = torch.device("cpu")


def test_tensors_come_back_as_they_were() -> None:
    generator = torch.Generator().manual_seed(0)
    sent = [
        torch.rand(3, generator=generator).half(),  # 6 bytes, so that what follows begins in the middle of a number
        torch.rand(5, 4, generator=generator),
        torch.rand(0, 4, generator=generator),
        torch.arange(7, dtype=torch.int32),
        torch.rand(2, 6, 6, generator=generator).half()[:, ::2].transpose(1, 2),
        torch.rand(1, generator=generator).expand(3, 2),
    ]
    came = to_host(sent)()
    for one, other in zip(sent, came, strict=True):
        assert one.shape == other.shape
        assert other.flags.aligned
        assert other.flags.writeable
        np.testing.assert_array_equal(one.numpy(), other, strict=True)
    came[1][:] = 0
    assert sent[1].all()


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_read_only_arrays_and_negative_strides_are_taken_and_left_alone(dtype: str) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    before = values.copy()
    values.setflags(write=False)
    sent = to_device(values[:, ::-1], CPU)
    np.testing.assert_array_equal(sent.numpy(), before[:, ::-1], strict=True)
    sent.zero_()
    np.testing.assert_array_equal(values, before)
