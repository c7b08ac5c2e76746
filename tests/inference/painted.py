"""A detector that finds rectangles of plain colours in the pixels it is given, exactly to the pixel."""

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from tis_ray.inference.predictor import Predictor
from tis_ray.models.detector import Looked
from tis_ray.models.mask_branch import MaskPrediction
from tis_ray.models.pyramid_align import Features, SizesHW
from tis_ray.models.roi_heads import Detections

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))  # of labels 0, 1, 2; grey is background
GREY = 128


def paint(size_hw: tuple[int, int], *rectangles: tuple[int, int, int, int, int]) -> np.ndarray:
    """A grey picture uint8 (H, W, 3) with a rectangle for each (x1, y1, x2, y2, label)."""
    picture = np.full((*size_hw, 3), GREY, np.uint8)
    for x1, y1, x2, y2, label in rectangles:
        picture[y1:y2, x1:x2] = COLOURS[label]
    return picture


class ColourDetector(nn.Module):
    """Finds in each image (3, h, w) the extent of every colour, at most one rectangle of each, within its pixels.

    The less it sees of one the higher its score, so that a piece wins wherever scores alone decide. Every patch has
    its left half set, which a mirrored view sees on the other side of the image. `batches` lists the sizes it got.
    """

    predicts_masks = True

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[tuple[int, int]]] = []

    def look(self, images: list[Tensor]) -> Looked:
        self.batches.append([(image.shape[1], image.shape[2]) for image in images])
        features = {str(number): image for number, image in enumerate(images)}
        return Looked(ImageList(torch.empty(0), self.batches[-1]), features)

    def detect(self, looked: Looked, *, masks: bool) -> list[Detections]:
        assert not masks
        return [self._find(image) for image in looked.features.values()]

    def segment(
        self, features: Features, boxes: list[Tensor], labels: list[Tensor], sizes_hw: SizesHW
    ) -> list[MaskPrediction]:
        assert len(features) == len(labels) == len(sizes_hw)
        left = torch.zeros(4, 4)
        left[:, :2] = 1
        return [MaskPrediction(left.expand(len(box), 4, 4)) for box in boxes]

    def _find(self, image: Tensor) -> Detections:
        boxes, scores, labels = [], [], []
        for label, colour in enumerate(COLOURS, start=1):
            share = _share(image, torch.tensor(colour))
            if share.max() > 0.5:
                (x1, x2), (y1, y2) = _extent(share.amax(dim=0)), _extent(share.amax(dim=1))
                boxes.append([x1, y1, x2, y2])
                scores.append(0.9 - 0.4 * (x2 - x1) * (y2 - y1) / share.numel())
                labels.append(label)
        return Detections(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels).long(), None)


def predictor(**options: int) -> Predictor:
    """A predictor over a `ColourDetector`."""
    return Predictor(ColourDetector(), device="cpu", **options)


def _share(image: Tensor, colour: Tensor) -> Tensor:
    """How much of each pixel, 0..1, is painted in `colour` rather than grey."""
    distance = (image.float() - GREY) * torch.sign(colour - GREY)[:, None, None]
    return (distance.amin(dim=0) / 127).clamp(0, 1)


def _extent(profile: Tensor) -> tuple[float, float]:
    """Start and end of the one run in a line of shares: resizing blurs its ends and keeps its sum."""
    full = torch.nonzero(profile > 0.98 * profile.max()).flatten()
    start, end = int(full[0]), int(full[-1]) + 1
    return start - float(profile[:start].sum()), end + float(profile[end:].sum())
