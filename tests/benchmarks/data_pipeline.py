"""Training samples of WAD frames beside torchvision's reference transforms: images a second and peak memory.

    TIS_RAY_DATA=FOLDER python -m tests.benchmarks.data_pipeline

reads the frames of `FOLDER/wad` and writes the figures into `docs/benchmarks.md`. Both ways decode the same JPEGs and
the same ground truth, draw a shorter edge of 1500 or 1800 px and mirror half of the samples, on one thread, each in a
process of its own and in turn. torchvision's way is that of its reference scripts for detection with tv_tensors: a full
mask for each object, v2.RandomShortestSize, v2.RandomHorizontalFlip, v2.ToDtype, v2.SanitizeBoundingBoxes.
"""

import json
import multiprocessing
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.resident import resident_mb

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_FIGURES = re.compile(r"(<!-- data pipeline -->\n).*?(<!-- end of data pipeline -->)", re.DOTALL)
SCALES, MAX_LONG_EDGE = (1500, 1800), 3384
CROWDED = 100  # instances
ROUNDS = 2


class Measured(NamedTuple):
    """One way: CPU seconds of each sample, and MB resident at its peak and before its first sample."""

    seconds: list[float]
    peak_mb: float
    loaded_mb: float


def main() -> None:
    """Measure, print, and put the figures between the marks of the page."""
    wad = frames()
    if wad is None:
        raise SystemExit("TIS_RAY_DATA: expected a folder with wad/; there is none")
    write(wad)


def frames() -> Path | None:
    """Where the frames are, None where they are not."""
    wad = Path(os.environ.get("TIS_RAY_DATA", "")) / "wad"
    return wad if "TIS_RAY_DATA" in os.environ and wad.is_dir() else None


def write(wad: Path) -> None:
    """The figures of the frames in `wad`, printed and on the page."""
    text = figures(wad)
    PAGE.write_text(_FIGURES.sub(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", PAGE.read_text()))
    print(text)


def figures(wad: Path) -> str:
    """Two tables: speed, and memory of samples with many objects."""
    with tempfile.TemporaryDirectory() as scratch:
        crowded = write_crowded(wad, Path(scratch))
        tasks: dict[str, tuple[Callable[..., Any], Callable[..., Any], Path]] = {
            "16 frames, 10 objects each, label images": (theirs_of_labels, ours_of_labels, wad),
            "16 frames, 10 objects each, COCO JSON": (theirs_of_coco, ours_of_coco, wad / "instances.json"),
            f"one frame, {CROWDED} objects, COCO JSON": (theirs_of_coco, ours_of_coco, crowded),
        }
        measured = {task: _in_turn(*ways) for task, ways in tasks.items()}
    speed = ["| task | torchvision, images/s | tis-ray, images/s | ratio | of the median frame | must be |"]
    speed.append("|---" * 6 + "|")
    memory = ["| task | torchvision, MB | tis-ray, MB | ratio | must be |", "|---|---|---|---|---|"]
    for task, (theirs, ours) in measured.items():
        per_s = [1 / statistics.mean(side.seconds) for side in (theirs, ours)]
        middle = statistics.median(theirs.seconds) / statistics.median(ours.seconds)
        ratio = f"**{per_s[1] / per_s[0]:.1f}x** | {middle:.1f}x"
        speed.append(f"| {task} | {per_s[0]:.2f} | {per_s[1]:.2f} | {ratio} | 3x |")
        whole = [side.peak_mb for side in (theirs, ours)]
        above = [side.peak_mb - side.loaded_mb for side in (theirs, ours)]
        target = "0.10" if str(CROWDED) in task else "-"
        memory.append(f"| {task} | {whole[0]:.0f} | {whole[1]:.0f} | {whole[1] / whole[0]:.2f} | {target} |")
        ratio = f"{above[1] / above[0]:.2f} | {target} |"
        memory.append(f"| the same, above libraries | {above[0]:.0f} | {above[1]:.0f} | {ratio}")
    rounds = f"Each way in {ROUNDS} {'process' if ROUNDS == 1 else 'processes'} of its own. Peak memory:"
    return "\n".join([*speed, "", rounds, "", *memory])


def write_crowded(wad: Path, folder: Path) -> Path:
    """A COCO file of one frame with a hundred objects, those of all frames in turn with their exact masks."""
    content = json.loads((wad / "instances.json").read_bytes())
    image = content["images"][0]
    image["file_name"] = str((wad / "images" / Path(image["file_name"]).name).resolve())
    entries = content["annotations"][:CROWDED]
    for number, entry in enumerate(entries, start=1):
        entry |= {"id": number, "image_id": image["id"], "iscrowd": 0}
    path = folder / "crowded.json"
    path.write_text(json.dumps({**content, "images": [image], "annotations": entries}))
    return path


def ours_of_labels(wad: Path) -> Any:
    """This project's training set over label images."""
    from tis_ray.formats.wad import read

    return _ours(read(wad / "labels", wad / "images"))


def ours_of_coco(path: Path) -> Any:
    """This project's training set over a COCO file."""
    from tis_ray.formats.coco import read

    return _ours(read(path))


def _ours(truth: Any) -> Any:
    from tis_ray.data.dataset import TrainingSet
    from tis_ray.data.plan import Draw

    dataset = TrainingSet(truth, scales=SCALES, max_long_edge=MAX_LONG_EDGE, flip_probability=0.5, seed=0)
    return len(truth), lambda index: dataset[Draw(index)]


def theirs_of_labels(wad: Path) -> Any:
    """torchvision's transforms over label images: masks as its tutorial on detection makes them of instance ids."""
    import numpy as np
    import torch
    from PIL import Image

    names = sorted(path.name.removesuffix("_instanceIds.png") for path in (wad / "labels").glob("*.png"))
    evaluated = (33, 34, 35, 36, 38, 39, 40)

    def read(index: int) -> Any:
        image = Image.open(wad / "images" / f"{names[index]}.jpg").convert("RGB")
        labels = torch.from_numpy(np.array(Image.open(wad / "labels" / f"{names[index]}_instanceIds.png"), np.int32))
        ids = labels.unique()
        ids = ids[torch.isin(ids // 1000, torch.tensor(evaluated))]
        masks = (labels == ids[:, None, None]).to(torch.uint8)
        return image, masks, ids // 1000

    return len(names), _theirs(read)


def theirs_of_coco(path: Path) -> Any:
    """torchvision's transforms over a COCO file: masks decoded by pycocotools as in its reference scripts."""
    import pycocotools.mask
    import torch
    from PIL import Image

    content = json.loads(path.read_bytes())
    images = content["images"]
    folder = path.parent

    def read(index: int) -> Any:
        image = Image.open(folder / images[index]["file_name"]).convert("RGB")
        entries = [one for one in content["annotations"] if one["image_id"] == images[index]["id"]]
        decoded = [torch.as_tensor(pycocotools.mask.decode(entry["segmentation"])) for entry in entries]
        masks = torch.stack(decoded) if decoded else torch.zeros((0, image.height, image.width), dtype=torch.uint8)
        return image, masks, torch.tensor([entry["category_id"] for entry in entries], dtype=torch.int64)

    return len(images), _theirs(read)


def _theirs(read: Callable[[int], Any]) -> Callable[[int], Any]:
    import torch
    from torchvision import tv_tensors
    from torchvision.ops import masks_to_boxes
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.RandomShortestSize(min_size=SCALES, max_size=MAX_LONG_EDGE),
            v2.RandomHorizontalFlip(p=0.5),
            v2.ToDtype(torch.float32, scale=True),
            v2.ConvertBoundingBoxFormat(tv_tensors.BoundingBoxFormat.XYXY),
            v2.SanitizeBoundingBoxes(),
            v2.ToPureTensor(),
        ]
    )

    def sample(index: int) -> Any:
        image, masks, labels = read(index)
        boxes = tv_tensors.BoundingBoxes(masks_to_boxes(masks), format="XYXY", canvas_size=(image.height, image.width))
        target = {"boxes": boxes, "masks": tv_tensors.Mask(masks), "labels": labels}
        return transform(v2.functional.to_image(image), target)

    return sample


def _in_turn(theirs: Callable[..., Any], ours: Callable[..., Any], path: Path) -> tuple[Measured, Measured]:
    """Each way in `ROUNDS` fresh processes, in turn, so that a busy moment of the machine meets both."""
    found: tuple[list[Measured], list[Measured]] = [], []
    for _ in range(ROUNDS):
        for side, way in zip(found, (theirs, ours), strict=True):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                side.append(pool.apply(measure, (way, path)))
    return _joined(found[0]), _joined(found[1])


def _joined(rounds: list[Measured]) -> Measured:
    return Measured(
        [statistics.median(again) for again in zip(*(one.seconds for one in rounds), strict=True)],
        max(one.peak_mb for one in rounds),
        min(one.loaded_mb for one in rounds),
    )


def measure(way: Callable[..., Any], path: Path, *, least: int = 4) -> Measured:
    """Every sample once after a first one, at least so many in all. CPU time: other programs take none of it."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    count, sample = way(path)
    loaded = resident_mb()
    sample(0)  # compiled kernels are loaded, libraries have what they keep
    seconds = []
    for index in range(max(count, least)):
        start = time.process_time()
        sample(index % count)
        seconds.append(time.process_time() - start)
    return Measured(seconds, resident_mb(), loaded)


if __name__ == "__main__":
    main()
