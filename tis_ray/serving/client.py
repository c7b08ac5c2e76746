"""A client of the service: `Client(url).segment("street.jpg")`. Imports neither PyTorch nor Ray."""

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from tis_ray.errors import InputError, ServiceError
from tis_ray.serving import retrying

_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """One instance: `bbox` x, y, width, height in image pixels; `segmentation` COCO RLE, polygons or None.

    `mask_score` ranks its mask, where members predict how well masks fit; else it is None.
    """

    category_id: int
    category: str
    score: float
    bbox: tuple[float, float, float, float]
    segmentation: dict[str, Any] | list[list[int]] | None
    area: float
    mask_score: float | None = None


@dataclass(frozen=True, slots=True)
class ViewOutcome:
    """How one view of the ensemble fared; `detections` with `explain=True`.

    `crop` is x1, y1, x2, y2, `tile` width, height and overlap of a grid, both in image pixels.
    """

    member: str
    scale: int
    flip: bool
    crop: tuple[int, ...] | None
    tile: Mapping[str, int] | None
    crop_name: str | None
    status: str
    seconds: float
    instances: int
    detections: tuple[dict[str, Any], ...] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The service's answer for one image."""

    width: int
    height: int
    sha256: str
    instances: tuple[FoundInstance, ...]
    views: tuple[ViewOutcome, ...]
    degraded: bool
    timings: Mapping[str, float]
    model_version: str

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO results, one dict for each instance, under the data set's own `image_id`."""
        rows = []
        for found in self.instances:
            row = {
                "image_id": image_id,
                "category_id": found.category_id,
                "bbox": list(found.bbox),
                "score": found.score,
            }
            more = {"segmentation": found.segmentation, "mask_score": found.mask_score}
            rows.append(row | {key: value for key, value in more.items() if value is not None})
        return rows


class Client:
    """Talks to one service; it keeps its connection, so use one for many images and close it at the end.

    A request that the service could not answer now (503), or that was lost with the process that had it, is sent
    again, up to `retries` times, after the time the service asks for or a pause that doubles. `timeout_s` bounds a
    request with all of that.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        token: str | None = None,
        timeout_s: float = 330.0,
        retries: int = 4,
    ) -> None:
        if token is not None and not (token.isascii() and token.isprintable()):
            raise InputError("token: expected printable ASCII characters; got others")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._retries = retries
        try:
            local = httpx.URL(self._url).host in ("127.0.0.1", "localhost", "::1")
        except httpx.InvalidURL as error:
            raise InputError(
                f"url: expected the address of a service as http://host:port; got '{url}' ({error})"
            ) from None
        # A proxy from the environment cannot reach this machine's own services.
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=timeout_s, trust_env=not local)

    def segment(self, image: Path | str | bytes | NDArray[np.uint8], **parameters: Any) -> Result:
        """The instances of an image: a file, the bytes of one, or a uint8 RGB array (H, W, 3), sent as PNG.

        `parameters` are those of `/v1/segment`: score_threshold, max_instances, masks, deadline_s, explain.
        Raises `ServiceError` with the service's reason.
        """
        content, content_type = _encode(image)
        query = {key: _text(value) for key, value in parameters.items() if value is not None}
        return _result(self._send("POST", "/v1/segment", content=content, type_=content_type, query=query))

    def ensemble(self) -> dict[str, Any]:
        """What the service runs: views, categories, fusion section, limits."""
        return self._send("GET", "/v1/ensemble")

    def ready(self) -> bool:
        """Whether every deployment has answered a warm-up image; False also where nobody answers."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def wait_until_ready(self, within_s: float) -> None:
        """Return once the service is ready. Raises `ServiceError` after `within_s` seconds."""
        end = time.monotonic() + within_s
        while not self.ready():
            if time.monotonic() > end:
                raise ServiceError(f"{self._url} is not ready within {within_s:g} s")
            time.sleep(0.2)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        type_: str | None = None,
        query: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        headers = {} if type_ is None else {"Content-Type": type_}
        request = self._http.build_request(method, path, content=content, headers=headers, params=query)
        try:
            response = retrying.send(self._http, request, retries=self._retries, timeout_s=self._timeout_s)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ServiceError(f"{self._url}: expected a tis-ray service that answers; got {reason}") from None
        try:
            answer: Any = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            answer = {"detail": response.text[:200]}
        if response.status_code != 200:
            detail = answer.get("detail") if isinstance(answer, dict) else None
            raise ServiceError(f"{self._url}{path}: {response.status_code} {detail}", status=response.status_code)
        if not isinstance(answer, dict):
            raise ServiceError(f"{self._url}{path}: expected a JSON object; got {type(answer).__name__}", status=200)
        return answer


def _encode(image: Path | str | bytes | NDArray[np.uint8]) -> tuple[bytes, str]:
    if isinstance(image, bytes):
        return image, "image/*"
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(f"image: expected a uint8 array (H, W, 3); got {image.dtype} {image.shape}")
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, format="PNG", compress_level=1)
        return stream.getvalue(), "image/png"
    path = Path(image)
    try:
        return path.read_bytes(), _TYPES.get(path.suffix.lower(), "image/*")
    except OSError as error:
        raise InputError(f"image: expected a readable file; got {path} ({error.strerror})") from None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _result(answer: dict[str, Any]) -> Result:
    views = []
    for view in answer["views"]:
        crop, detections = view["crop"], view.get("detections")
        changed = {
            "crop": None if crop is None else tuple(crop),
            "detections": None if detections is None else tuple(detections),
        }
        views.append(ViewOutcome(**(view | changed)))
    return Result(
        **answer["image"],
        instances=tuple(FoundInstance(**(row | {"bbox": tuple(row["bbox"])})) for row in answer["instances"]),
        views=tuple(views),
        degraded=answer["degraded"],
        timings=answer["timings"],
        model_version=answer["model_version"],
    )
