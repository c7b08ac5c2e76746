"""The two kinds of YAML: a `Recipe` trains one member, an `Ensemble` serves and fuses several.

Both are frozen pydantic models that refuse unknown keys. What a menu folder offers (backbones, rules, ...) is
named by a `Choice` and checked against the folder by whoever assembles it.
"""

from tis_ray.config.data import (
    AugmentSection,
    CocoFolder,
    DataFolder,
    DataSection,
    ExternalSection,
    MosaicSection,
    PhotometricSection,
    RegionsSection,
    RotateSection,
    ScaleJitterSection,
    WadFolder,
)
from tis_ray.config.detector import (
    AreaRatioSection,
    BoxSection,
    CascadeSection,
    DetectorSection,
    MaskSection,
    Norm,
    RpnSection,
    StuffSection,
)
from tis_ray.config.ensemble import Ensemble
from tis_ray.config.fusion import FusionSection
from tis_ray.config.inference import Inference
from tis_ray.config.member import Crop, Member, Tiles
from tis_ray.config.reading import ENSEMBLE, dump, dump_views, load_ensemble, load_recipe, parse, read_yaml
from tis_ray.config.recipe import Recipe, ScheduleSection, StartSection, TrainResources
from tis_ray.config.results import ResultsFile, ResultsFiles
from tis_ray.config.section import Choice, Part, Section
from tis_ray.config.service import Auth, Autoscaling, Limits, Quorum, Replica

__all__ = [
    "ENSEMBLE",
    "AreaRatioSection",
    "AugmentSection",
    "Auth",
    "Autoscaling",
    "BoxSection",
    "CascadeSection",
    "Choice",
    "CocoFolder",
    "Crop",
    "DataFolder",
    "DataSection",
    "DetectorSection",
    "Ensemble",
    "ExternalSection",
    "FusionSection",
    "Inference",
    "Limits",
    "MaskSection",
    "Member",
    "MosaicSection",
    "Norm",
    "Part",
    "PhotometricSection",
    "Quorum",
    "Recipe",
    "RegionsSection",
    "Replica",
    "ResultsFile",
    "ResultsFiles",
    "RotateSection",
    "RpnSection",
    "ScaleJitterSection",
    "ScheduleSection",
    "Section",
    "StartSection",
    "StuffSection",
    "Tiles",
    "TrainResources",
    "WadFolder",
    "dump",
    "dump_views",
    "load_ensemble",
    "load_recipe",
    "parse",
    "read_yaml",
]
