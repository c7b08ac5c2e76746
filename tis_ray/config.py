"""The two kinds of YAML: a `Recipe` trains one member, an `Ensemble` serves and fuses several.

Both are frozen pydantic models that refuse unknown keys. What a menu folder offers (backbones, rules, ...) is
named by a `Choice` and checked against the folder by whoever assembles it.
"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_serializer,
    model_validator,
)

from tis_ray.errors import ConfigError
from tis_ray.menu import explain
from tis_ray.views import View

Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """Base of every config section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Choice(Section):
    """One entry of a menu folder with its options; in YAML `name` or `name: {option: value}`."""

    name: str
    options: dict[str, Any] = {}

    @model_serializer
    def _write(self) -> str | dict[str, Any]:
        return {self.name: self.options} if self.options else self.name


def _read_choice(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and len(value) == 1:
        ((name, options),) = value.items()
        return {"name": name, "options": options or {}}
    if isinstance(value, dict) and set(value) == {"name", "options"}:
        return value
    if isinstance(value, Choice):
        return value
    raise ValueError("expected a name, or one name with its options as in 'nms: {iou_threshold: 0.5}'")


Part = Annotated[Choice, BeforeValidator(_read_choice)]


# ---------------------------------------------------------------------------------------------- Recipe


class CocoFolder(Section):
    """A COCO JSON and the folder its file names are relative to (default: `images` beside it, else its own)."""

    annotations: Path
    images: Path | None = None


class DataSection(Section):
    """What a member is trained on, and how images are varied and batched.

    `scales` are shorter edges in pixels, one drawn for each image; `batch_size` counts images per worker.
    """

    train: CocoFolder
    val: CocoFolder | None = None
    scales: tuple[int, ...] = Field(default=(800,), min_length=1)
    max_long_edge: int | None = 1333
    flip_probability: float = Field(default=0.5, ge=0, le=1)
    batch_size: int = Field(default=2, ge=1)
    loader_processes: int = Field(default=0, ge=0)


class AnchorSection(Section):
    """Anchor sides in network pixels, one tuple per pyramid level from fine to coarse, and height/width ratios."""

    sizes: tuple[tuple[float, ...], ...] = ((32,), (64,), (128,), (256,), (512,))
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)


class RpnSection(Section):
    """Region proposal network: IoU bounds of anchor matching, sampling and proposal counts."""

    positive_iou: float = 0.7
    negative_iou: float = 0.3
    samples_per_image: int = 256
    positive_fraction: float = 0.5
    nms_iou: float = 0.7
    pre_nms_top_n_train: int = 2000
    post_nms_top_n_train: int = 2000
    pre_nms_top_n_test: int = 1000
    post_nms_top_n_test: int = 1000


class BoxSection(Section):
    """Second stage: RoI sampling, the two-layer box head and the post-processing of one view."""

    pool_size: int = 7
    hidden: int = 1024
    positive_iou: float = 0.5
    samples_per_image: int = 512
    positive_fraction: float = 0.25
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_instances: int = 100


class MaskSection(Section):
    """Mask branch: RoI grid before up-sampling (the patch has twice its side) and convolution widths."""

    pool_size: int = 14
    channels: tuple[int, ...] = (256, 256, 256, 256)


class DetectorSection(Section):
    """The detector, one choice per part; `mask: null` leaves the mask branch out."""

    backbone: Part
    neck: Part = Choice(name="fpn")
    anchors: AnchorSection = AnchorSection()
    rpn: RpnSection = RpnSection()
    box: BoxSection = BoxSection()
    mask: MaskSection | None = MaskSection()
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class ScheduleSection(Section):
    """SGD with linear warm-up and step decay. Milestones are epochs; `lr` is for the whole batch of all workers."""

    epochs: int = Field(default=12, ge=1)
    lr: float = Field(default=0.02, gt=0)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_iterations: int = Field(default=500, ge=0)
    warmup_factor: float = Field(default=1 / 3, gt=0, le=1)
    milestones: tuple[float, ...] = (8, 11)
    gamma: float = 0.1
    clip_grad_norm: float | None = None
    validate_every_epochs: int = Field(default=1, ge=1)


class TrainResources(Section):
    """Ray Train workers. `gpus_per_worker: auto` takes one GPU each where the cluster has any, else none."""

    workers: int = Field(default=1, ge=1)
    cpus_per_worker: float = Field(default=1, gt=0)
    gpus_per_worker: float | Literal["auto"] = "auto"


class Recipe(Section):
    """Everything that trains one member; its run folder is `output`/`name`."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    data: DataSection
    detector: DetectorSection
    schedule: ScheduleSection = ScheduleSection()
    resources: TrainResources = TrainResources()
    seed: int = Field(default=0, ge=0)
    output: Path = Path("runs")

    @property
    def run_dir(self) -> Path:
        """Folder of the run: `checkpoint/`, `tensorboard/` and Ray Train's own state."""
        return self.output / self.name


# -------------------------------------------------------------------------------------------- Ensemble


def _check_scales(scales: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(scales)) != len(scales) or min(scales, default=1) < 1:
        raise ValueError("expected different shorter edges of at least 1 px")
    return scales


class Member(Section):
    """One trained model and the views it is asked for: every scale, each also mirrored where `flip`."""

    checkpoint: Path
    scales: Annotated[tuple[int, ...], AfterValidator(_check_scales)] = Field(min_length=1)
    max_long_edge: int | None = None
    flip: bool = True


def _check_range(interval: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= interval[0] < interval[1]:
        raise ValueError("expected 0 <= low < high")
    return interval


Range = Annotated[tuple[float, float], AfterValidator(_check_range)]  # [low, high) of sqrt(box area) in px


class FusionSection(Section):
    """How views become one answer. It may change while the service runs.

    `ranges` maps `member@scale`, or `@scale` for all members, to the sqrt(box area) interval in image pixels
    [low, high) that this scale may speak for; the others speak for every size. `rules` run in the order given.
    """

    ranges: dict[str, Range] = {}
    rules: tuple[Part, ...] = (Choice(name="nms", options={"iou_threshold": 0.5}),)
    masks: Part = Choice(name="best")
    top_k: int = Field(default=100, ge=1)
    score_threshold: float = Field(default=0.0, ge=0, le=1)


class Limits(Section):
    """What the service accepts, checked before a picture is decoded, and how long an answer may take."""

    max_bytes: int = Field(default=64 * 2**20, ge=1)
    max_pixels: int = Field(default=100_000_000, ge=1)
    deadline_s: float = Field(default=60.0, gt=0)
    max_deadline_s: float = Field(default=300.0, gt=0)
    max_queued_requests: int = Field(default=64, ge=1)


class Autoscaling(Section):
    """Ray Serve's autoscaling of one deployment; delays are seconds."""

    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=1, ge=1)
    target_ongoing_requests: float = Field(default=2, gt=0)
    upscale_delay_s: float = 30
    downscale_delay_s: float = 600


class Replica(Section):
    """Resources and number of replicas of one deployment: `num_replicas`, or `autoscaling` in its place."""

    num_replicas: int = Field(default=1, ge=1)
    num_cpus: float = Field(default=1, ge=0)
    num_gpus: float | Literal["auto"] = "auto"
    autoscaling: Autoscaling | None = None


class Ensemble(Section):
    """Members, their views, the fusion of those, and what each deployment of the service gets.

    `replicas` is keyed by deployment name (`gateway`, `fusion`, `member@scale`); `default` serves the view
    servers that are not named.
    """

    members: dict[str, Member] = Field(min_length=1)
    fusion: FusionSection = FusionSection()
    limits: Limits = Limits()
    replicas: dict[str, Replica] = {}
    auth: Literal["none"] | None = None

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name in self.members:
            if not name or not set(name) <= _NAME_CHARACTERS:
                raise ValueError(f"members.{name}: expected a name of letters, digits, '_', '-' and '.'")
        deployments = {view.deployment for view in self.views}
        scales = {f"@{view.scale}" for view in self.views}
        for key in self.fusion.ranges:
            if key not in deployments | scales:
                raise ValueError(f"fusion.ranges.{key}: expected one of {', '.join(sorted(deployments | scales))}")
        known = {"default", "gateway", "fusion"} | deployments
        for key in self.replicas:
            if key not in known:
                raise ValueError(f"replicas.{key}: expected one of {', '.join(sorted(known))}")
        return self

    @property
    def views(self) -> tuple[View, ...]:
        """Every view of every member, sorted: the order in which fusion numbers its sources."""
        return tuple(
            sorted(
                View(name, scale, flip, (), member.max_long_edge)
                for name, member in self.members.items()
                for scale in member.scales
                for flip in ((False, True) if member.flip else (False,))
            )
        )

    def replica(self, deployment: str) -> Replica:
        """Resources of a view server: its own entry, else `default`."""
        return self.replicas.get(deployment, self.replicas.get("default", Replica()))


_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")


# --------------------------------------------------------------------------------------------- Reading


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe. A bare name, as `tiny_resnet18`, means the recipe of that name that tis-ray ships.

    `overrides` are `a.b=value` texts; paths in the file are relative to the current folder.
    """
    path = Path(path)
    if not path.exists() and path.parent == Path() and not path.suffix:
        shipped = Path(__file__).parent / "recipes"
        names = sorted(file.stem for file in shipped.glob("*.yaml"))
        if path.name not in names:
            raise ConfigError(f"recipe: expected a YAML file or one of {', '.join(names)}; got '{path}'")
        path = shipped / f"{path.name}.yaml"
    return parse(Recipe, read_yaml(path), overrides, source=str(path))


def load_ensemble(path: Path | str, overrides: Sequence[str] = ()) -> Ensemble:
    """Read an ensemble; checkpoint paths in the file are relative to the file's own folder."""
    path = Path(path)
    ensemble = parse(Ensemble, read_yaml(path), overrides, source=str(path))
    members = {
        name: member.model_copy(update={"checkpoint": (path.parent / member.checkpoint).resolve()})
        for name, member in ensemble.members.items()
    }
    return ensemble.model_copy(update={"members": members})


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises `ConfigError` where there is none."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable YAML file; got {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected YAML; got {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys and values; got {type(content).__name__}")
    return content


def parse(model: type[Model], content: dict[str, Any], overrides: Sequence[str] = (), *, source: str) -> Model:
    """Validate `content`, with `a.b=value` overrides applied, as `model`. Raises `ConfigError`."""
    content = deepcopy(content)
    for override in overrides:
        _override(content, override)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{source}: {explain(error, allowed=_allowed(model, error))}") from None


def dump(section: Section) -> dict[str, Any]:
    """A section as plain YAML values that validate to the same section."""
    return section.model_dump(mode="json")


def _override(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set: expected key.path=value; got '{override}'")
    *parents, last = key.split(".")
    node: Any = content
    for parent in parents:
        if isinstance(node, dict) and isinstance(node.get(parent), str):
            node[parent] = {node[parent]: {}}  # `backbone: resnet18` gains options
        if isinstance(node, dict) and node.get(parent) is None:
            node[parent] = {}  # a key without a value, as `fusion:`
        node = node[parent] if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise ConfigError(f"--set {key}: '{parent}' is not a section")
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {key}: expected a YAML value; got '{text}'") from None


def _allowed(model: type[BaseModel], error: ValidationError) -> list[str] | None:
    """The keys of the section in which the first problem lies."""
    section: type[BaseModel] | None = model
    for step in error.errors(include_url=False)[0]["loc"][:-1]:
        field = getattr(section, "model_fields", {}).get(step)
        section = _section_of(field.annotation) if field is not None else section
    return sorted(section.model_fields) if section is not None else None


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [_section_of(argument) for argument in getattr(annotation, "__args__", ())]
    return next((found for found in inner if found is not None), None)
