"""Where `tis-ray segment` draws what was found in each image: a picture, or a folder of them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tis_ray.errors import ConfigError
from tis_ray.serving.answers import Result
from tis_ray.serving.picked import Picked, PickedImage


@dataclass(frozen=True, slots=True)
class Drawings:
    """Overlays below `folder`, called as their images are, or the one `picture`."""

    folder: Path
    picture: Path | None = None

    @staticmethod
    def to(overlay: Path, picked: Picked) -> "Drawings":
        """A picture where `overlay` has a suffix and there is one image, else a folder.

        Raises `ConfigError` where one overlay would lie over another or over an image.
        """
        if overlay.suffix and len(picked.images) > 1:
            raise ConfigError(f"--overlay: expected a folder for {len(picked.images)} images; got {overlay}")
        drawings = Drawings(overlay.parent, overlay) if overlay.suffix else Drawings(overlay)
        counts = Counter(drawings.target(image) for image in picked.images)
        doubles = [image.path for image in picked.images if counts[drawings.target(image)] > 1]
        if doubles:
            more = f" and {len(doubles) - 2} more" if len(doubles) > 2 else ""
            raise ConfigError(f"--overlay: expected images of different names; got {', '.join(doubles[:2])}{more}")
        for image in picked.images:
            if drawings.target(image).absolute() == Path(image.path).absolute():
                raise ConfigError(f"--overlay: expected another place than the images'; {image.path} would be lost")
        return drawings

    def target(self, image: PickedImage) -> Path:
        """The file that is drawn for an image."""
        return self.picture or self.folder / Path(image.name).with_suffix(".png")

    def draw(self, image: PickedImage, result: Result, *, score_threshold: float) -> Path:
        """Draw and return the file. Raises `DataError` where the image can no longer be read."""
        target = self.target(image)
        target.parent.mkdir(parents=True, exist_ok=True)
        result.overlay(image.path, score_threshold=score_threshold).save(target)
        return target
