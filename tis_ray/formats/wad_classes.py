"""The classes of the WAD 2018 data set (CVPR 2018 workshop on autonomous driving) by the ids of its label images."""

from tis_ray.instances import Categories

RIDER = 37  # labelled, but not evaluated
EVALUATED = Categories(
    (33, 34, 35, 36, 38, 39, 40), ("car", "motorbicycle", "bicycle", "person", "truck", "bus", "tricycle")
)
WITH_RIDER = Categories(
    (33, 34, 35, 36, RIDER, 38, 39, 40),
    ("car", "motorbicycle", "bicycle", "person", "rider", "truck", "bus", "tricycle"),
)
