"""The same few validation images after every validation, with what is there beside what was found."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tis_ray.formats.dataset import GroundTruth, ImageRecord
from tis_ray.formats.images import RgbImage
from tis_ray.instances import Instances
from tis_ray.overlay import draw_overlay, found_of, true_of

NUMBER, SCORE_THRESHOLD = 4, 0.3
_WIDTH_PX = 720  # of each of the two pictures


class Samples:
    """`seen` is told of every image that is validated; `pictures` are those of the chosen ones, of the last time."""

    def __init__(self, truth: GroundTruth, number: int = NUMBER) -> None:
        self._truth = truth
        chosen = np.linspace(0, len(truth) - 1, min(number, len(truth))).round().astype(int)
        self._chosen = {truth.images[i].id for i in chosen.tolist()}
        self.pictures: dict[str, NDArray[np.uint8]] = {}

    def seen(self, record: ImageRecord, image: RgbImage, found: Instances) -> None:
        """Draw an image (H, W, 3), if it is one of the chosen, with what was `found`, in the labels of the truth."""
        if record.id not in self._chosen:
            return
        names, size_hw = self._truth.categories, (record.height, record.width)
        there = true_of(self._truth.annotations(record.id), categories=names, size_hw=size_hw)
        better = found[found.scores >= SCORE_THRESHOLD]
        both = [
            draw_overlay(image, shown, categories=names, score_threshold=SCORE_THRESHOLD, max_side=_WIDTH_PX)
            for shown in (there, found_of(better, categories=names, size_hw=size_hw))
        ]
        self.pictures[f"samples/{record.file_name}"] = _beside(both)


def _beside(pictures: list[Image.Image]) -> NDArray[np.uint8]:
    """Pictures in a row, uint8 (H, W, 3)."""
    gap = 8
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    whole = Image.new("RGB", (width, max(picture.height for picture in pictures)), (255, 255, 255))
    x = 0
    for picture in pictures:
        whole.paste(picture, (x, 0))
        x += picture.width + gap
    return np.asarray(whole)
