"""The training sizes of a checkpoint: there and back, and what is said of others."""

import numpy as np
import orjson
import pytest

from tis_ray.errors import CheckpointError, DataError
from tis_ray.formats.training_sizes import TRAINING_SIZES, TrainingSizes, read_training_sizes


def test_a_share_lies_below_its_quantile():
    sizes = np.random.default_rng(0).lognormal(3, 1, 5000)
    found = TrainingSizes.of(sizes)
    for share in (0, 0.05, 0.5, 0.95, 1):
        assert found.at(share) == pytest.approx(np.quantile(sizes, share))
    assert found.at(0.055) == pytest.approx((found.at(0.05) + found.at(0.06)) / 2)


def test_one_object_is_enough():
    assert TrainingSizes.of(np.array([12.5])).at(0.3) == 12.5


def test_the_same_after_writing_and_reading(tmp_path):
    once = TrainingSizes.of(np.random.default_rng(0).lognormal(3, 1, 500))
    (tmp_path / TRAINING_SIZES).write_bytes(orjson.dumps(once.to_json()))
    assert read_training_sizes(tmp_path) == once


def test_a_checkpoint_without_them_has_none(tmp_path):
    assert read_training_sizes(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "expected JSON with a list of numbers under quantiles; got others", id="empty"),
        pytest.param(b"[1, 2]", "list of numbers under quantiles", id="no object"),
        pytest.param(b"{}", "list of numbers under quantiles", id="without the key"),
        pytest.param(b'{"quantiles": 3}', "not iterable", id="no list"),
        pytest.param(b'{"quantiles": ["a", 2]}', "could not convert", id="no numbers"),
        pytest.param(b'{"quantiles": [1]}', "quantiles: expected at least 2 .*; got 1 numbers", id="one number"),
        pytest.param(b'{"quantiles": [0, 2]}', "above 0 .*; got 2 numbers from 0 to 2", id="zero"),
        pytest.param(b'{"quantiles": [3, 2]}', "do not fall; got 2 numbers from 3 to 2", id="falling"),
        pytest.param(b'{"quantiles": [1, 1e999]}', "", id="infinite"),
    ],
)
def test_another_content_is_refused_with_the_file(tmp_path, content, message):
    (tmp_path / TRAINING_SIZES).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"^checkpoint {tmp_path}: training_sizes\.json: .*{message}"):
        read_training_sizes(tmp_path)


def test_wrong_quantiles_are_refused_where_they_are_made():
    with pytest.raises(DataError, match=r"quantiles: .*; got 0 numbers$"):
        TrainingSizes(())
