"""What a member is measured with: what the fusion asks its views for, and as many pictures as share a forward."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import save_tiny_checkpoint
from tis_ray.config import Ensemble
from tis_ray.inference.asked import Asked
from tis_ray.planning.costs import twins_of
from tis_ray.planning.measuring import _Member, measure, noise


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    """A detector, and a segmenter that gives the masks of its boxes."""
    folder = tmp_path_factory.mktemp("measured")
    members = {name: {"checkpoint": str(folder / name), "scales": [64]} for name in ("boxes", "masks")}
    for name in members:
        save_tiny_checkpoint(Path(folder) / name)
    roles = {name: {"role": name} for name in members}
    return Ensemble.model_validate({"members": members, "fusion": {"members": roles}})


@pytest.mark.parametrize("name", ["boxes", "masks"])
def test_pictures_that_share_a_forward_are_looked_at_together_and_nothing_is_kept_of_them(ensemble, name) -> None:
    member, forwards = _Member(ensemble, name, torch.device("cpu")), []
    member._predictor.share = True
    member._predictor.detector.backbone.register_forward_hook(lambda _, inputs, out: forwards.append(len(inputs[0])))
    member._look_together([Asked(noise((64, 96)))] * 3, twins_of(ensemble)[name]["64"])
    assert forwards == [6]  # each picture and its mirror image
    assert member._predictor.memory.nbytes == 0


def test_members_of_every_role_are_measured(ensemble) -> None:
    costs = measure(ensemble, noise((64, 96)), repetitions=1)
    assert (costs.seconds, costs.image_size) == ("measured", "96x64")
    assert all(np.isfinite(member.views["64"].seconds) for member in costs.members.values())
    assert costs.members.keys() == {"boxes", "masks"}
