"""What a recipe's `data` section names, opened for training: ground truth and the batches of one worker."""

from tis_ray.config import AugmentSection, CocoFolder, DataSection, Recipe, RegionsSection
from tis_ray.data.dataset import Augmentations, TrainingSet, check_files
from tis_ray.data.external import JoinedTruth
from tis_ray.data.loading import Batches
from tis_ray.data.mosaic import Mosaic
from tis_ray.data.photometric import Photometric
from tis_ray.data.plan import EpochPlan, Source, some_of, upright_images
from tis_ray.data.regions import ValidTrainingRegion
from tis_ray.data.rotation import Rotation
from tis_ray.data.sampling import image_sampler
from tis_ray.data.scale_jitter import ScaleJitter
from tis_ray.errors import ConfigError, DataError
from tis_ray.formats.dataset import GroundTruth, is_federated
from tis_ray.formats.opening import open_dataset
from tis_ray.formats.stuff_maps import StuffMaps


def read_truth(recipe: Recipe, *, check_images: bool) -> GroundTruth:
    """The training set. `DataError` where it has no class and, with `check_images`, where files are missing.

    `ConfigError` where the detector asks which classes were looked for and no image says it.
    """
    truth = open_dataset(recipe.data.train)
    if not len(truth.categories):
        raise DataError(f"{truth.path}: categories: expected at least one; got none")
    _check_negatives(recipe, truth)
    if check_images:
        _check(truth, stuff_maps(recipe))
    return truth


def read_external(recipe: Recipe, truth: GroundTruth, *, check_images: bool) -> GroundTruth | None:
    """The external data with the classes of the training set, None where a recipe has none. Checked as that is."""
    section = recipe.data.external
    if section is None:
        return None
    external = JoinedTruth(open_dataset(section), truth.categories)
    if not len(external):
        raise DataError(f"{external.path}: images: expected at least one for data.external; got none")
    if check_images:
        _check(external, _external_stuff(recipe))
    return external


def build_batches(
    recipe: Recipe,
    truth: GroundTruth,
    external: GroundTruth | None,
    *,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> Batches:
    """The batches of one worker."""
    data = recipe.data
    plan = EpochPlan(
        image_sampler(data.sampling, truth),
        batch_size=data.batch_size,
        seed=recipe.seed,
        upright=upright_images(truth) if data.group_by_aspect else None,
        external=None if external is None else _external_source(data, external),
    )
    return Batches(
        _training_set(recipe, truth, stuff_maps(recipe)),
        plan,
        external=None if external is None else _training_set(recipe, external, _external_stuff(recipe)),
        loss_weight=1.0 if data.external is None else data.external.loss_weight,
        rank=rank,
        world_size=world_size,
        loader_processes=data.loader_processes,
        pin_memory=pin_memory,
    )


def stuff_maps(recipe: Recipe) -> StuffMaps | None:
    """What `detector.stuff` learns from, None where a recipe has none. `ConfigError` where its data names no maps."""
    section, train = recipe.detector.stuff, recipe.data.train
    if section is None:
        return None
    folder = train.stuff if isinstance(train, CocoFolder) else None
    if folder is None:
        raise ConfigError(
            "data.train.stuff: expected the folder of COCO-format data's label maps, from which detector.stuff learns; "
            "got none (detector.stuff=null leaves that branch out)"
        )
    return StuffMaps(folder, section.num_classes)


def _external_stuff(recipe: Recipe) -> StuffMaps | None:
    """Maps of the external images, which need not have any: no stuff is learnt from those without."""
    section, external = recipe.detector.stuff, recipe.data.external
    if section is None or external is None or external.stuff is None:
        return None
    return StuffMaps(external.stuff, section.num_classes)


def _check_negatives(recipe: Recipe, truth: GroundTruth) -> None:
    chosen = recipe.detector.box.classification
    if chosen.options.get("negatives") != "verified" or recipe.data.external is not None or is_federated(truth):
        return  # external images may lack classes, of which they are not verified
    raise ConfigError(
        f"detector.box.classification.{chosen.name}.negatives: verified expects images that say which classes were "
        f"looked for, as by LVIS's neg_category_ids; none of {truth.path} does (all and sampled do not ask)"
    )


def _check(truth: GroundTruth, stuff: StuffMaps | None) -> None:
    check_files(truth)
    if stuff is not None:
        stuff.check(truth.images)


def _external_source(data: DataSection, external: GroundTruth) -> Source:
    assert data.external is not None
    return Source(
        some_of(len(external), most=data.external.images_per_epoch),
        upright_images(external) if data.group_by_aspect else None,
    )


def _training_set(recipe: Recipe, truth: GroundTruth, stuff: StuffMaps | None) -> TrainingSet:
    data = recipe.data
    return TrainingSet(
        truth,
        scales=data.scales,
        scale_sampling=data.scale_sampling,
        max_long_edge=data.max_long_edge,
        flip_probability=data.flip_probability,
        seed=recipe.seed,
        region=_region(data.regions),
        augment=_augmentations(data.augment),
        stuff=stuff,
    )


def _region(regions: RegionsSection) -> ValidTrainingRegion | None:
    section = regions.valid_training_region
    return None if section is None else ValidTrainingRegion(section.probability, section.margin)


def _augmentations(section: AugmentSection) -> Augmentations:
    mosaic, jitter, turn, colours = section.mosaic, section.scale_jitter, section.rotate, section.photometric
    return Augmentations(
        mosaic=None if mosaic is None else Mosaic(**dict(mosaic)),
        scale_jitter=None if jitter is None else ScaleJitter(**dict(jitter)),
        rotation=None if turn is None else Rotation(**dict(turn)),
        photometric=None if colours is None else Photometric(**dict(colours)),
    )
