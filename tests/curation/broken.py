"""A data set in which everything is wrong once, and a whole one beside it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = {"width": 60, "height": 40}
WHOLE_MASK = [10, 10, 20, 10, 20, 20, 10, 20]


def picture(path: Path, seed: int, size_wh: tuple[int, int] = (60, 40), **options: Any) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95, **options)


def objects_of(image_id: int, first_id: int) -> list[dict[str, Any]]:
    """Two objects without a fault."""
    whole = {"image_id": image_id, "category_id": 1, "bbox": [10, 10, 10, 10], "area": 100}
    return [
        whole | {"id": first_id, "segmentation": [WHOLE_MASK]},
        whole | {"id": first_id + 1, "bbox": [30, 5, 20, 30], "area": 600, "category_id": 2},
    ]


def whole_set(folder: Path, number: int = 6) -> Path:
    """A COCO JSON of `number` images, two objects in each, without a fault."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(number):
        picture(folder / "images" / f"{i}.jpg", i)
        images.append({"id": i, "file_name": f"{i}.jpg", **SIZE})
        annotations += objects_of(i, 10 * i + 1)
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "person"}]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


# What `broken_set` has, by the kind of problem.
EXPECTED = {
    "image entry": 3,
    "annotation entry": 4,
    "missing picture": 1,
    "unreadable picture": 2,
    "other size": 1,
    "rotated picture": 1,
    "same picture": 1,
    "empty mask": 1,
    "no area": 1,
    "mask off box": 1,
    "other area": 1,
    "same object": 1,
    "contradiction": 1,
    "tiny object": 1,
    "class without objects": 1,
    "image without objects": 1,
}


def broken_set(folder: Path) -> Path:
    """The whole set with every fault of `EXPECTED` added."""
    path = whole_set(folder, 12)
    pictures, content = folder / "images", json.loads(path.read_text())
    images, annotations = content["images"], content["annotations"]
    (pictures / "0.jpg").unlink()
    (pictures / "1.jpg").write_bytes((pictures / "1.jpg").read_bytes()[:-300])
    (pictures / "2.jpg").write_text("no picture")
    picture(pictures / "3.jpg", 3, (40, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(pictures / "4.jpg", 4, exif=exif)
    shutil.copy(pictures / "5.jpg", pictures / "6.jpg")
    images[7]["neg_category_ids"], images[7]["not_exhaustive_category_ids"] = [2, 3], []
    images += [
        {"id": 7, "file_name": "again.jpg", **SIZE},
        {"id": 50, "file_name": "negative.jpg", "width": -1, "height": 40},
        {"id": 51, "file_name": "0.jpg", **SIZE, "neg_category_ids": [77]},
    ]
    content["categories"].append({"id": 3, "name": "never"})
    annotations[:] = [one for one in annotations if one["image_id"] != 11]

    def add(**fields: Any) -> None:
        base = {"id": 1000 + len(annotations), "image_id": 8, "category_id": 1, "bbox": [1, 1, 9, 9]}
        annotations.append(base | fields)

    add(category_id=99)
    add(image_id=50)
    add(bbox=[55, 5, 30, 10])
    annotations.append(dict(annotations[0]))
    add(segmentation={"size": [40, 60], "counts": [2400]})
    add(bbox=[20, 20, 0, 5])
    add(bbox=[40, 25, 10, 10], segmentation=[WHOLE_MASK])
    add(bbox=[10, 10, 10, 10], segmentation=[WHOLE_MASK], area=1000, category_id=2)
    add(image_id=9, bbox=[10, 10, 10, 10])
    add(bbox=[3, 3, 1, 1])
    path.write_text(json.dumps(content))
    return path
