"""Kept views under a fusion section, scored against the ground truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tis_ray.config import Ensemble
from tis_ray.errors import ConfigError
from tis_ray.evaluation.coco import KINDS, CocoReport, evaluate
from tis_ray.evaluation.comparison import Result
from tis_ray.evaluation.overlaps import Kind
from tis_ray.formats.categories import class_map
from tis_ray.formats.coco_results import to_results
from tis_ray.formats.dataset import GroundTruth
from tis_ray.formats.members import ensemble_sizes
from tis_ray.formats.training_sizes import TrainingSizes
from tis_ray.instances import Categories
from tis_ray.masks import BoxMasks
from tis_ray.runs.folder import RunFolder
from tis_ray.tuning.fusing import fuse_kept, fuser_of
from tis_ray.tuning.kept import KeptImage, SomeImages, load
from tis_ray.views import View

_WORDS: dict[str, Kind] = {"box": "bbox", "mask": "segm"}
SCORES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a report: `mask.AP` is the AP of masks, `box.APs` that of the boxes of small objects."""

    kind: Kind
    score: str

    @staticmethod
    def of(text: str) -> "Metric":
        """From its name. Raises `ConfigError` for an unknown one."""
        kind, _, score = text.partition(".")
        if kind not in _WORDS or score not in SCORES:
            raise ConfigError(
                f"--metric: expected box or mask, and one of {', '.join(SCORES)}, as mask.AP; got '{text}'"
            )
        return Metric(_WORDS[kind], score)

    @property
    def name(self) -> str:
        """In words: `mask AP`."""
        return f"{next(word for word, kind in _WORDS.items() if kind == self.kind)} {self.score}"

    def __call__(self, report: CocoReport) -> float:
        """The figure, 0..1, or -1 where there is nothing to compute it from."""
        return float(getattr(report[self.kind], self.score))


class Bench:
    """The kept views of some images, which any fusion of the same members can be tried on.

    images:     the images, each with what its views found
    truth:      their ground truth
    categories: the ensemble's class table
    sizes:      the members' training sizes by name, of those whose checkpoints have them
    masked:     whether any view has masks
    """

    def __init__(
        self,
        images: Sequence[KeptImage],
        truth: GroundTruth,
        categories: Categories,
        *,
        sizes: Mapping[str, TrainingSizes] | None = None,
    ) -> None:
        self.images = list(images)
        self.truth = SomeImages(truth, [image.image_id for image in images])
        self.categories = categories
        self.sizes = sizes or {}
        self.index_map = class_map(categories, truth.categories, key="--ground-truth")
        self.masked = any(isinstance(one.masks, BoxMasks) for image in images for one in image.found.values())

    @staticmethod
    def of(run: RunFolder, truth: GroundTruth, *, masks: bool = True) -> "Bench":
        """What a run kept of the images that the ground truth has; see `kept.load`."""
        images = load(run, truth, masks=masks)
        return Bench(images, truth, run.categories, sizes=ensemble_sizes(run.ensemble))

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What can be scored: boxes, and masks where there are any."""
        return ("bbox", "segm") if self.masked else ("bbox",)

    def among(self, chosen: Sequence[int]) -> "Bench":
        """The images at these places alone, nothing read or decoded again."""
        fewer = object.__new__(Bench)
        fewer.images = [self.images[i] for i in chosen]
        fewer.truth = self.truth.among([image.image_id for image in fewer.images])
        fewer.categories, fewer.sizes, fewer.index_map = self.categories, self.sizes, self.index_map
        fewer.masked = self.masked
        return fewer

    def results(self, ensemble: Ensemble, *, views: Sequence[View] | None = None, masks: bool = True) -> list[Result]:
        """COCO results of all images, fused of these views as the ensemble's fusion section says.

        views: by default all of the ensemble
        masks: False fuses boxes alone, which is much faster
        """
        sources = ensemble.views if views is None else tuple(views)
        fuser = fuser_of(ensemble, self.categories, sizes=self.sizes)
        found: list[Result] = []
        for image in self.images:
            kept = image.found if masks else {view: one.without_masks() for view, one in image.found.items()}
            fused = fuse_kept(fuser, kept, image_hw=image.size_hw, sources=sources).relabelled(self.index_map)
            found += to_results(
                fused, image_id=image.image_id, categories=self.truth.categories, size_hw=image.size_hw, masks=masks
            )
        return found

    def report(
        self,
        ensemble: Ensemble,
        *,
        views: Sequence[View] | None = None,
        kinds: Sequence[str] = KINDS,
        bootstrap: int = 0,
    ) -> CocoReport:
        """The scores of that, by the metric of the ground truth, COCO's or LVIS's."""
        return evaluate(
            self.truth,
            self.results(ensemble, views=views, masks="segm" in kinds),
            kinds=kinds,
            bootstrap=bootstrap,
        )

    def score(self, ensemble: Ensemble, metric: Metric) -> float:
        """One figure of it, and no more work than it takes."""
        return metric(self.report(ensemble, kinds=(metric.kind,)))
