"""The two kinds of YAML: a `Recipe` trains one member, an `Ensemble` serves and fuses several.

Both are frozen pydantic models that refuse unknown keys. What a menu folder offers (backbones, rules, ...) is
named by a `Choice` and checked against the folder by whoever assembles it.
"""

from tis_ray.config.ensemble import Autoscaling, Ensemble, FusionSection, Limits, Member, Replica
from tis_ray.config.reading import dump, load_ensemble, load_recipe, parse, read_yaml
from tis_ray.config.recipe import (
    AnchorSection,
    BoxSection,
    CocoFolder,
    DataSection,
    DetectorSection,
    MaskSection,
    Recipe,
    RpnSection,
    ScheduleSection,
    TrainResources,
)
from tis_ray.config.section import Choice, Part, Section

__all__ = [
    "AnchorSection",
    "Autoscaling",
    "BoxSection",
    "Choice",
    "CocoFolder",
    "DataSection",
    "DetectorSection",
    "Ensemble",
    "FusionSection",
    "Limits",
    "MaskSection",
    "Member",
    "Part",
    "Recipe",
    "Replica",
    "RpnSection",
    "ScheduleSection",
    "Section",
    "TrainResources",
    "dump",
    "load_ensemble",
    "load_recipe",
    "parse",
    "read_yaml",
]
