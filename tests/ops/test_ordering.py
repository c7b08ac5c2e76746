"""Positions in the order of a float, against numpy's stable sort."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tis_ray.ops.ordering import falling, rising


@given(arrays.arrays(np.float32, st.integers(0, 40), elements=st.floats(allow_nan=False, width=32)))
def test_order_is_that_of_a_stable_sort(values):
    assert rising(values).tolist() == np.argsort(values, kind="stable").tolist()
    assert falling(values).tolist() == np.argsort(-values, kind="stable").tolist()


@pytest.mark.parametrize("order", [rising, falling])
def test_zero_and_minus_zero_are_equal(order):
    assert order(np.float32([0.0, -0.0, 0.0, -0.0])).tolist() == [0, 1, 2, 3]
