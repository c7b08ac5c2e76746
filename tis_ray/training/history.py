"""What a run has written to TensorBoard, read back: figures over steps, and the last pictures. No PyTorch."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tis_ray.training.run_folder import TENSORBOARD

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """One figure over the run: `steps`, `values` and when each was written, in seconds, (N,)."""

    steps: Numbers
    values: Numbers
    times: Numbers

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, slots=True)
class History:
    """Figures and texts by name, the pictures of the last validation, and the step that these are of."""

    series: dict[str, Series]
    pictures: dict[str, Image.Image]
    pictures_step: int
    texts: dict[str, str]

    def group(self, prefix: str) -> dict[str, Series]:
        """The figures whose name begins so, by the rest of their names."""
        return {name.removeprefix(prefix): one for name, one in self.series.items() if name.startswith(prefix)}


def read_history(run_dir: Path) -> History:
    """All that a run has written; of what was written twice, by a run that was resumed, the later."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = run_dir / TENSORBOARD
    if not folder.is_dir():
        return History({}, {}, 0, {})
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1, "tensors": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        events.Reload()
    tags = events.Tags()
    pictures = {tag: events.Images(tag)[-1] for tag in tags["images"]}
    last = max((picture.step for picture in pictures.values()), default=0)
    texts = {tag: events.Tensors(tag)[-1].tensor_proto.string_val for tag in tags["tensors"]}
    return History(
        {tag: _series(events.Scalars(tag)) for tag in tags["scalars"]},
        {
            tag: Image.open(io.BytesIO(picture.encoded_image_string))
            for tag, picture in pictures.items()
            if picture.step == last
        },
        last,
        {tag.removesuffix("/text_summary"): held[0].decode() for tag, held in texts.items() if held},
    )


def _series(events: list) -> Series:
    """Sorted by step; of several values of a step the one written last."""
    last = {event.step: event for event in sorted(events, key=lambda event: event.wall_time)}
    rows = np.array([(step, last[step].value, last[step].wall_time) for step in sorted(last)], dtype=np.float64)
    return Series(*rows.reshape(-1, 3).T)
