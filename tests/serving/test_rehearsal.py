"""A replica has fused and written objects before its first picture comes."""

import os
import subprocess
import sys

import pytest

from tis_ray.config import Ensemble
from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Categories
from tis_ray.serving.rehearsal import rehearse_fusion

CATEGORIES = Categories(ids=(1, 2), names=("car", "person"))
# A process of its own, whose kernels nobody has called; it prints what a picture with objects adds after the rehearsal.
FIRST_PICTURE = """
import numpy as np
from numba.core.dispatcher import Dispatcher
from tis_ray.config import FusionSection
from tis_ray.fusion.fuse import Fuser
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.serving import answer
from tis_ray.serving.rehearsal import rehearse_fusion, rehearse_writing
from tis_ray.views import View

made = []
compiled = Dispatcher.compile
def counted(self, signature):
    made.append(self.__name__)
    return compiled(self, signature)
Dispatcher.compile = counted

categories = Categories(ids=(1, 2), names=("car", "person"))
fuser, views = Fuser(FusionSection(), categories), (View("a", 100), View("a", 200), View("b", 100))
rehearse_fusion(fuser, views)
rehearse_writing(categories)
rehearsed = len(made)
random = np.random.default_rng(0)
def found():
    corners = random.uniform(0, 400, (50, 2))
    boxes = np.concatenate([corners, corners + random.uniform(5, 90, (50, 2))], axis=1).astype(np.float32)
    masks = BoxMasks(boxes, random.random((50, 28, 28)).astype(np.float16))
    return Instances.of(boxes, random.random(50), random.integers(0, 2, 50), masks)
fused = fuser.fuse({view: found() for view in views}, image_hw=(480, 640))
answer.write_instances(fused, categories=categories, image_hw=(480, 640), masks="rle")
print(len(fused), rehearsed, *made[rehearsed:])
"""


def ensemble(roles: dict[str, str]) -> Ensemble:
    members = {name: {"checkpoint": name, "scales": [100, 200]} for name in roles}
    spoken = {name: {"role": role} for name, role in roles.items()}
    return Ensemble.model_validate({"members": members, "fusion": {"members": spoken}, "auth": "none"})


@pytest.mark.parametrize(
    "roles", [{"a": "both"}, {"a": "both", "b": "boxes"}, {"a": "boxes", "b": "masks"}, {"a": "both", "b": "masks"}]
)
def test_every_division_of_work_can_be_rehearsed(roles):
    one = ensemble(roles)
    fused = rehearse_fusion(Fuser.of(one, CATEGORIES, sizes={}), one.views)
    assert len(fused) >= 2
    assert fused.masks is not None
    assert fused.masks.present.all()


def test_a_member_without_masks_is_rehearsed_without_them():
    one = ensemble({"a": "both"})
    assert rehearse_fusion(Fuser.of(one, CATEGORIES, sizes={}, maskless=["a"]), one.views).masks is None


def test_after_it_the_first_picture_compiles_nothing():
    ended = subprocess.run(
        [sys.executable, "-c", FIRST_PICTURE], capture_output=True, text=True, env=os.environ, check=True
    )
    number, rehearsed, *more = ended.stdout.split()
    assert int(number) > 10
    assert int(rehearsed) > 0
    assert more == []
