"""What views cost on this machine's device: each is run as a view server runs it, some times over."""

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from tis_ray.config import Ensemble
from tis_ray.formats.members import ensemble_categories
from tis_ray.inference.asked import Asked
from tis_ray.inference.feature_memory import FeatureMemory
from tis_ray.inference.predictor import Predictor
from tis_ray.inspection.costs import OnProgress
from tis_ray.instances import Instances
from tis_ray.planning.costs import GIB, Costs, MemberCosts, ViewCost, check_meets, twins_of
from tis_ray.planning.estimating import estimate
from tis_ray.views import SizeHW, View

_KEY = "planned"


def measure(
    ensemble: Ensemble,
    image: NDArray[np.uint8],
    *,
    repetitions: int = 5,
    on_progress: OnProgress | None = None,
) -> Costs:
    """The costs of all views on a picture uint8 RGB (H, W, 3): median seconds, and on a GPU the memory they take.

    On a CPU the memory is estimated, as that of a GPU. Raises `CheckpointError` for a checkpoint that cannot be read,
    and `ConfigError` for a crop that misses the picture.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    image_hw: SizeHW = (image.shape[0], image.shape[1])
    twins = twins_of(ensemble)
    total, done = sum(map(len, twins.values())), 0
    estimated = None if device.type == "cuda" else estimate(ensemble, image_hw)
    members = {}
    for name, views in twins.items():
        member = _Member(ensemble, name, device)
        costs = {}
        for key, pair in views.items():
            check_meets(pair, image_hw)
            seconds = member.seconds(image, pair, repetitions)
            gib = estimated.members[name].views[key].gib if estimated else member.gib(image, pair)
            costs[key] = ViewCost(seconds=seconds, gib=gib)
            done += 1
            if on_progress is not None:
                on_progress(done, total)
        weights = estimated.members[name].weights_gib if estimated else member.weights_gib
        members[name] = MemberCosts(weights_gib=weights, views=costs)
        del member  # before the next one takes memory
    return Costs(
        device=_name_of(device),
        image_size=f"{image_hw[1]}x{image_hw[0]}",
        seconds="measured",
        memory="estimated" if estimated else "measured",
        memory_gb=_memory_gb(device),
        members=members,
    )


class _Member:
    """A member's model on a device, asked for what the fusion asks its views for."""

    def __init__(self, ensemble: Ensemble, name: str, device: torch.device) -> None:
        before = _allocated(device)
        self._predictor = Predictor.from_checkpoint(
            ensemble.members[name].checkpoint,
            device=device,
            categories=ensemble_categories(ensemble),
            memory=FeatureMemory(2**62),
            precision=ensemble.inference.precision,
            batch_px=ensemble.inference.batch_px,
        )
        self._compiles = ensemble.inference.compile
        if self._compiles:
            self._predictor.compile(bucket_px=ensemble.inference.size_bucket_px, cache=ensemble.inference.compile_cache)
        self._device = device
        self.weights_gib = (_allocated(device) - before) / GIB
        role = ensemble.fusion.role(name)
        masks = self._predictor.predicts_masks
        self._boxes = role != "masks"
        self._second = masks and (role == "masks" or (role == "both" and ensemble.fusion.second_pass))
        self._own_masks = masks and role == "both" and not ensemble.fusion.second_pass
        self._top_k = ensemble.fusion.top_k
        self._most_waiting = ensemble.limits.max_queued_requests

    def seconds(self, image: NDArray[np.uint8], views: list[View], repetitions: int) -> float:
        """Of one picture, all that is asked for: the first time, when memory is taken, does not count."""
        look = partial(self._look, image, views)
        if self._compiles:
            self._predictor.warm_up([(image.shape[0], image.shape[1])], views)
        look()
        return median(_timed(look) for _ in range(repetitions))

    def gib(self, image: NDArray[np.uint8], views: list[View]) -> float:
        """The most memory beside the weights, when as many pictures share a forward as may."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_reserved(self._device)
        self._look(image, views)
        may = self._predictor.pictures_at_once((image.shape[0], image.shape[1]), views)
        together = min(may, self._most_waiting)
        if together > 1:
            self._look_together([Asked(image)] * together, views)
        return (torch.cuda.max_memory_reserved(self._device) - before) / GIB

    def _look(self, image: NDArray[np.uint8], views: list[View]) -> None:
        remember = _KEY if self._second else None
        found: list[Instances] = []
        if self._boxes:
            found = self._predictor.predict(image, views, masks=self._own_masks, remember=remember)
        elif remember:
            self._predictor.remember(image, views, remember)
        if remember:
            boxes, labels = self._fused(found, image)
            self._predictor.predict_masks(image, boxes, labels, views, recall=remember)
            self._predictor.memory.forget(remember)

    def _look_together(self, asked: list[Asked], views: list[View]) -> None:
        """The first pass over pictures that share its forwards; what is kept of them is no part of that."""
        if self._boxes:
            self._predictor.predict_together(asked, views, masks=self._own_masks)
        else:
            self._predictor.remember_together(asked, views)

    def _fused(self, found: list[Instances], image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """As many boxes as the fusion may ask masks for: the views' own, and what lacks anywhere in the picture."""
        rng = np.random.default_rng(0)
        height, width = image.shape[:2]
        corners = rng.random((self._top_k, 2)) * (0.9 * width, 0.9 * height)
        sides = rng.uniform(0.01, 0.1, (self._top_k, 2)) * (width, height)
        boxes = np.concatenate([*(one.boxes for one in found), np.hstack([corners, corners + sides])])
        labels = np.concatenate([*(one.labels for one in found), np.zeros(self._top_k, dtype=np.int32)])
        return boxes[: self._top_k].astype(np.float32), labels[: self._top_k].astype(np.int32)


def noise(image_hw: SizeHW) -> NDArray[np.uint8]:
    """A picture uint8 (height, width, 3) where there is none: a detector finds less in it than in others."""
    return np.random.default_rng(0).integers(0, 256, (*image_hw, 3), dtype=np.uint8)


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "this machine's CPU"


def _memory_gb(device: torch.device) -> float | None:
    return torch.cuda.get_device_properties(device).total_memory / 1e9 if device.type == "cuda" else None
