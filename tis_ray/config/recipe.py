"""The recipe of one member: data, detector parts, schedule and resources, and the views it is tested by."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from tis_ray.config.data import DataSection
from tis_ray.config.data_path import LocalPath
from tis_ray.config.detector import DetectorSection
from tis_ray.config.ensemble import Ensemble
from tis_ray.config.fusion import FusionSection
from tis_ray.config.member import MemberViews
from tis_ray.config.section import Section
from tis_ray.menu import explain

NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
FrozenPart = Literal["backbone", "neck", "rpn", "box", "mask"]


class ScheduleSection(Section):
    """SGD with linear warm-up and step decay; how long, how often it is checked and kept, and what of it learns.

    The end is after `epochs`, or after `iterations`, whichever is given; `milestones` are of the same unit. An
    iteration is one step of the optimiser: of `accumulate` batches on each worker. `lr` is for the whole batch of all
    workers and accumulated batches, or, where `lr_batch_size` is given, for a batch of so many images and scaled
    linearly to the one there is.

    checkpoint_every_iterations: between the ends of epochs too; None for these alone
    ema_decay: keep a running mean of the weights, w = decay * w + (1 - decay) * new after each step, which is what is
               tested and published
    frozen:    parts that do not learn and whose norms keep their statistics
    """

    epochs: PositiveInt = 12
    iterations: PositiveInt | None = None
    lr: float = Field(default=0.02, gt=0, allow_inf_nan=False)
    lr_batch_size: PositiveInt | None = None
    accumulate: PositiveInt = 1
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: NonNegativeFloat = 1e-4
    warmup_iterations: int = Field(default=500, ge=0)
    warmup_factor: float = Field(default=1 / 3, gt=0, le=1)
    milestones: tuple[PositiveFloat, ...] = (8, 11)
    gamma: float = Field(default=0.1, gt=0, le=1)
    clip_grad_norm: PositiveFloat | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    frozen: tuple[FrozenPart, ...] = ()
    validate_every_epochs: PositiveInt = 1
    checkpoint_every_iterations: PositiveInt | None = None

    @model_validator(mode="after")
    def _check_milestones(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"expected rising milestones; got {list(self.milestones)}")
        return self

    @model_validator(mode="after")
    def _check_end(self) -> Self:
        if self.iterations is None:
            return self
        if "epochs" in self.model_fields_set:
            raise ValueError("expected epochs or iterations; got both")
        if "milestones" not in self.model_fields_set:
            raise ValueError("expected milestones, in iterations, beside iterations (milestones: [] for none)")
        return self

    @model_serializer(mode="wrap")
    def _write(self, default: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the key that does not count, so that what is written can be read."""
        written: dict[str, Any] = default(self)
        return {key: value for key, value in written.items() if key != "epochs" or self.iterations is None}


def _check_gpus(count: float | str) -> float | str:
    if isinstance(count, float) and (count < 0 or (count > 1 and count != int(count))):
        raise ValueError("expected 'auto', a part of one GPU, or a whole number of them")
    return count


def _check_workers(count: int | tuple[int, int]) -> int | tuple[int, int]:
    if isinstance(count, tuple) and count[0] >= count[1]:
        raise ValueError("expected a number of workers or a range [least, most]")
    return count


class TrainResources(Section):
    """Ray Train workers: a number, or a range [least, most] that follows what the cluster has.

    `gpus_per_worker: auto` takes one GPU each where the cluster has that many, else none. A run that loses a worker
    goes on from its last checkpoint, up to `max_failures` times.

    `activation_checkpointing` computes the backbone and the neck again in each backward pass instead of keeping what
    they computed: far less memory and the same gradients, for one more forward pass of these two. `compile` compiles
    both for each size of batch; sizes are then rounded up to multiples of `size_bucket_px`, so that there are few.
    """

    workers: Annotated[PositiveInt | tuple[PositiveInt, PositiveInt], AfterValidator(_check_workers)] = 1
    cpus_per_worker: PositiveFloat = 1
    gpus_per_worker: Annotated[float | Literal["auto"], AfterValidator(_check_gpus)] = "auto"
    max_failures: int = Field(default=3, ge=0)
    activation_checkpointing: bool = False
    compile: bool = False
    size_bucket_px: Annotated[int, Field(ge=32, multiple_of=32)] = 32

    @model_validator(mode="after")
    def _check_compile(self) -> Self:
        if self.compile and self.activation_checkpointing:
            raise ValueError("expected compile or activation_checkpointing; got both, which PyTorch does not compile")
        return self

    @property
    def least_workers(self) -> int:
        """The number of workers, or the least of the range: without so many the run waits."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def most_workers(self) -> int:
        """The number of workers, or the most of the range: what the schedule is meant for."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]


class StartSection(Section):
    """Another checkpoint, with whose weights training begins: all that fit, and class by class what has rows for each.

    checkpoint: its folder
    classes:    names of classes here and what they are called there, null for those that are to begin at random; the
                others are called the same
    """

    checkpoint: LocalPath
    classes: dict[str, str | None] = Field(default_factory=dict)


class TestSection(MemberViews):
    """The views that the trained member is asked for, as under `members` of an ensemble, and what fuses them."""

    __test__ = False  # no test case, whatever pytest makes of the name

    fusion: FusionSection = FusionSection()


class Recipe(Section):
    """Everything that trains one member, serves it and scores it; its run folder is `output`/`name`.

    Without `test` the trained member is asked for one view: the last of the training scales, not mirrored. A member
    that was trained elsewhere has no `data`; it can be served, and trained on once a section is given.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    data: DataSection | None = None
    detector: DetectorSection
    start: StartSection | None = None
    schedule: ScheduleSection = ScheduleSection()
    resources: TrainResources = TrainResources()
    test: TestSection | None = None
    seed: int = Field(default=0, ge=0)
    output: LocalPath = Path("runs")

    @model_validator(mode="after")
    def _check_test(self) -> Self:
        try:
            self.ensemble()
        except ValidationError as error:
            raise ValueError(f"test: {explain(error)}") from None
        return self

    @property
    def run_dir(self) -> Path:
        """Folder of the run: `checkpoint/`, `tensorboard/` and Ray Train's own state."""
        return self.output / self.name

    def ensemble(self) -> Ensemble | None:
        """The ensemble of this member alone, its checkpoint beside the file; None where no view is known.

        A member trained elsewhere may have neither `test` nor `data` to take a scale from.
        """
        if self.test is not None:
            views = self.test.model_dump(mode="json", exclude={"preset", "fusion"})
            content: dict[str, Any] = {"fusion": self._fusion().model_dump(mode="json")}
        elif self.data is not None:
            views = {"scales": self.data.scales[-1:], "max_long_edge": self.data.max_long_edge, "flip": False}
            content = {}
        else:
            return None
        return Ensemble.model_validate({"members": {self.name: {"checkpoint": ".", **views}}, **content})

    def _fusion(self) -> FusionSection:
        """The test's fusion; of a detector without masks no second pass, unless it was written."""
        assert self.test is not None
        fusion, mask = self.test.fusion, self.detector.mask
        idle = (mask is None or mask.only_in_training) and not fusion.insists_on_second_pass
        return fusion.model_copy(update={"second_pass": False}) if idle else fusion
