"""What decides the results of a batch run, in plain values: a run may only go on as it began."""

import hashlib
from collections.abc import Sequence
from typing import Any

from tis_ray.config import Ensemble, dump
from tis_ray.formats.image_list import ListedImage
from tis_ray.serving.versions import model_version

_NO_DIFFERENCE = {"checkpoint", "groups", "preset"}  # where a member lies and runs, and a name for its scales


def describe(ensemble: Ensemble, images: Sequence[ListedImage]) -> dict[str, Any]:
    """Members with their checkpoints' contents and views, the fusion section, and which images there are.

    The content of the images is not looked at, nor the format of the results. Reads the members' checkpoints.
    """
    content = dump(ensemble)
    members = {
        name: {
            "model_version": model_version({name: ensemble.members[name].checkpoint}),
            **{key: value for key, value in member.items() if key not in _NO_DIFFERENCE},
        }
        for name, member in content["members"].items()
    }
    listing = hashlib.sha256(repr([(image.id, image.file_name, image.size_hw) for image in images]).encode())
    return {
        "members": members,
        "fusion": content["fusion"],
        "images": {"count": len(images), "list": listing.hexdigest()[:12]},
    }
