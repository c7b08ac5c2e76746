"""What the service accepts, from whom, how much of it has to answer, and what each of its deployments gets."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tis_ray.config.section import Section


class Limits(Section):
    """What the service accepts, checked before a picture is decoded, and how long an answer may take.

    A request whose body stands still for `body_stall_s` seconds is given up before its deadline. A gateway holds up to
    `max_queued_requests`, most of them as the bytes that came. `max_decoded_pixels` bounds what is decoded of them at
    once, 3 bytes a pixel: with the defaults 1.2 GB in the object store. While it is decoded, at most four pictures at a
    time, a picture takes 10 (JPEG, PNG) to 20 bytes (WebP, JPEG 2000, 32-bit TIFF) a pixel.
    """

    max_bytes: int = Field(default=64 * 2**20, ge=1)
    max_pixels: int = Field(default=100_000_000, ge=1)
    max_decoded_pixels: int = Field(default=400_000_000, ge=1)
    deadline_s: float = Field(default=60.0, gt=0)
    max_deadline_s: float = Field(default=300.0, gt=0)
    body_stall_s: float = Field(default=10.0, gt=0)
    max_queued_requests: int = Field(default=64, ge=1)

    @model_validator(mode="after")
    def _check_deadlines(self) -> Self:
        if self.deadline_s > self.max_deadline_s:
            raise ValueError(f"deadline_s: expected at most max_deadline_s, {self.max_deadline_s:g}")
        return self


class Auth(Section):
    """Who is let in: who sends one of the bearer tokens in `tokens_file`, one to a line, `#` before comments."""

    tokens_file: Path


class Quorum(Section):
    """How much of the ensemble has to answer a request.

    `views` is the share of its views: with 1 an answer that lacks any of them is refused, with less it is given and
    says `degraded: true`.
    """

    views: float = Field(default=1.0, gt=0, le=1)

    def met(self, answered: int, asked: int) -> bool:
        """Whether `answered` of `asked` views are enough; none at all never are."""
        return answered > 0 and answered >= self.views * asked - 1e-9  # 0.7 * 10 is a little above 7


class Autoscaling(Section):
    """Ray Serve's autoscaling of one deployment, kept from oscillating; periods and delays are seconds.

    A replica more or less is wanted by the mean, over `look_back_period_s`, of the requests that run and wait; it is
    started once that has been so for all of `upscale_delay_s`, and taken away after `downscale_delay_s`. Delays above
    the look-back make sure that a decision rests on nothing that came before the last one. `downscaling_factor` is the
    part of a surplus that goes at once, `upscaling_factor` that of a lack. There is at least one replica: nobody else
    would answer meanwhile.

    initial_replicas: what a first deployment starts with; `min_replicas` unless written
    """

    min_replicas: int = Field(default=1, ge=1)
    initial_replicas: int | None = Field(default=None, ge=1)
    max_replicas: int = Field(default=1, ge=1)
    target_ongoing_requests: float = Field(default=2, gt=0)
    look_back_period_s: float = Field(default=20, gt=10)  # Serve hears from replicas every 10 s
    upscale_delay_s: float = 30
    downscale_delay_s: float = 600
    upscaling_factor: float = Field(default=1, gt=0)
    downscaling_factor: float = Field(default=0.5, gt=0, lt=1)

    @model_validator(mode="after")
    def _check_replicas(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas: expected at most max_replicas, {self.max_replicas}")
        initial = self.initial_replicas
        if initial is not None and not self.min_replicas <= initial <= self.max_replicas:
            raise ValueError(
                f"initial_replicas: expected {self.min_replicas} to {self.max_replicas}, min_replicas to "
                f"max_replicas; got {initial}"
            )
        return self

    @model_validator(mode="after")
    def _check_delays(self) -> Self:
        for name in ("upscale_delay_s", "downscale_delay_s"):
            delay_s = getattr(self, name)
            if delay_s <= self.look_back_period_s:
                raise ValueError(
                    f"{name}: expected more than look_back_period_s, {self.look_back_period_s:g}, so that replicas do "
                    f"not come and go by turns; got {delay_s:g}"
                )
        return self


def _check_gpus(num_gpus: float | str) -> float | str:
    if not isinstance(num_gpus, str) and not (0 <= num_gpus <= 1 or (num_gpus > 1 and num_gpus.is_integer())):
        raise ValueError("expected auto, a share in 0..1 or a whole number of GPUs")
    return num_gpus


def _check_memory(mebibytes: int | str) -> int | str:
    if not isinstance(mebibytes, str) and mebibytes < 0:
        raise ValueError("expected auto or at least 0")
    return mebibytes


def _check_surge(percent: int | str) -> int | str:
    if not isinstance(percent, str) and not 0 <= percent <= 100:
        raise ValueError("expected auto or 0 to 100")
    return percent


FEATURE_MEMORY_MB = {True: 2048, False: 512}  # what `auto` is with a GPU and without


class Replica(Section):
    """Resources and number of replicas of one deployment: `num_replicas`, or `autoscaling` in its place.

    `feature_memory_mb` bounds what a replica of a view server keeps of images, on its device, from the first pass to
    the second, where there is one: `auto` is 2048 on a GPU and 512 without. What is not kept is computed anew.

    When its code or arguments change, a deployment is updated by steps of `rolling_update_percentage` of its replicas,
    at least one. `max_surge_percent` of them, rounded up, are started before old ones stop; with 0 the old ones stop
    first. `auto` is 25 where the cluster has room for one replica more of the deployment beside all, else 0.
    """

    num_replicas: int = Field(default=1, ge=1)
    num_cpus: float = Field(default=1, ge=0)
    num_gpus: Annotated[float | Literal["auto"], AfterValidator(_check_gpus)] = "auto"
    autoscaling: Autoscaling | None = None
    feature_memory_mb: Annotated[int | Literal["auto"], AfterValidator(_check_memory)] = "auto"
    rolling_update_percentage: float = Field(default=0.2, gt=0, le=1)
    max_surge_percent: Annotated[int | Literal["auto"], AfterValidator(_check_surge)] = "auto"

    @model_validator(mode="after")
    def _check_replicas(self) -> Self:
        if self.autoscaling is not None and self.num_replicas != 1:
            raise ValueError("num_replicas: expected none beside autoscaling, which has min_replicas and max_replicas")
        return self

    @property
    def most(self) -> int:
        """How many replicas there may be at once."""
        return self.num_replicas if self.autoscaling is None else self.autoscaling.max_replicas

    def feature_bytes(self, *, on_gpu: bool) -> int:
        """What `feature_memory_mb` comes to."""
        mebibytes = FEATURE_MEMORY_MB[on_gpu] if self.feature_memory_mb == "auto" else self.feature_memory_mb
        return mebibytes * 2**20
