"""Calibrations to try: fitted to what the kept views of some images hold, once for each method."""

from collections.abc import Iterator, Mapping

from tis_ray.calibration.fitting import fit_members
from tis_ray.config import Choice, Ensemble
from tis_ray.instances import Annotations, Instances
from tis_ray.tuning.scoring import Bench


class Fits:
    """The calibrations of an ensemble's members, by method, fitted to the images of `bench` when first asked for.

    They are fitted to all that a member found, whatever the sizes that its views may speak for: these are searched,
    too. A member whose boxes do not count gets none, nor does one with too few detections.
    """

    def __init__(self, bench: Bench, ensemble: Ensemble) -> None:
        self._bench = bench
        self._ensemble = ensemble
        self._found: dict[str, dict[str, Choice]] = {}

    def __call__(self, method: str) -> Mapping[str, Choice]:
        """Of each member that it could be fitted for."""
        if method not in self._found:
            fits = fit_members(self._images(), self._bench.truth.categories, method=method)
            self._found[method] = {name: fit.calibration for name, fit in fits.items() if fit.calibration is not None}
        return self._found[method]

    def _images(self) -> Iterator[tuple[Annotations, dict[str, Instances]]]:
        views = [view for view in self._ensemble.views if self._ensemble.fusion.role(view.member) != "masks"]
        for image in self._bench.images:
            members: dict[str, list[Instances]] = {view.member: [] for view in views}
            for number, view in enumerate(views):
                if view in image.found:
                    members[view.member].append(image.found[view].without_masks().from_view(number))
            yield (
                self._bench.truth.annotations(image.image_id),
                {
                    name: Instances.concatenate(parts).relabelled(self._bench.index_map)
                    for name, parts in members.items()
                },
            )
