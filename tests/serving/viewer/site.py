"""The page in front of a service whose models are a function: quick, and just as a test wants it."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvicorn

from tis_ray.config import Ensemble, Limits
from tis_ray.instances import Categories, Instances
from tis_ray.masks import BoxMasks
from tis_ray.serving.gateway import Gateway
from tis_ray.serving.messages import FusedAnswer, ViewReport
from tis_ray.serving.routes import build_app

ENSEMBLE = Ensemble.model_validate({"members": {"a": {"checkpoint": "a", "scales": [64, 96]}}})
CATEGORIES = Categories((3, 7, 9), ("car", "person", "bus"))
SIZE_WH = (400, 300)
# Boxes x1, y1, x2, y2, scores and classes of what "is found" in every picture: a bus, a car, a person 4 px wide.
BOXES = np.array([[40, 60, 140, 160], [200, 100, 240, 120], [300, 200, 304, 208]], dtype=np.float32)
SCORES = [0.9, 0.6, 0.35]
LABELS = [2, 0, 1]


def found() -> Instances:
    """Three instances whose masks fill their boxes, and a pixel around them where that is interpolated."""
    return Instances.of(BOXES, SCORES, LABELS, BoxMasks(BOXES, np.ones((3, 14, 14), dtype=np.float16)))


@dataclass
class Site:
    """A running page: where it is, what its models answer, after how long, and the tokens that open it."""

    url: str = ""
    answer: Callable[[], Instances] = found
    seconds: float = 0.0
    failures: list[Exception] = field(default_factory=list)
    tokens: tuple[str, ...] = ()
    asked: int = 0
    missing: bool = False

    async def fuse(self, frame: Any, *, image_hw: Any, deadline_s: float, explain: str) -> FusedAnswer:
        self.asked += 1
        start = time.monotonic()
        while time.monotonic() - start < self.seconds:  # until a test has no more use for it
            await asyncio.sleep(0.01)
        if self.failures:
            raise self.failures.pop(0)
        instances = self.answer()
        reports = []
        for i, view in enumerate(sorted(ENSEMBLE.views)):
            status = "timeout" if self.missing and i == 1 else "ok"
            own = instances[: i % 2 + 1].without_masks() if status == "ok" else Instances.empty()
            shown = own if explain == "boxes" else None
            reports.append(ViewReport(view, status, 0.1 * (i + 1), len(own), shown))
        return FusedAnswer(instances, tuple(reports), 0.4, 0.1)


@contextmanager
def serving(site: Site) -> Iterator[None]:
    """The real application, answering by `site` at `site.url`."""
    gateway = Gateway(
        site.fuse, put=lambda frame: frame, categories=CATEGORIES, limits=Limits(), model_version="0123456789ab"
    )

    async def section() -> tuple[Any, None]:
        return ENSEMBLE.fusion, None

    app = build_app(
        gateway,
        ensemble=ENSEMBLE,
        categories=CATEGORIES,
        model_version="0123456789ab",
        fusion_section=section,
        tokens=lambda: site.tokens,
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        site.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", ws="none", log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield
        finally:
            server.should_exit = True
            thread.join()
