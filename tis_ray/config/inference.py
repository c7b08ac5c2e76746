"""How view servers run their models: precision, compiled graphs, and what shares a forward."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tis_ray.config.section import Section

_SIZE = re.compile(r"([1-9]\d{0,5})x([1-9]\d{0,5})")


def _check_sizes(sizes: tuple[str, ...]) -> tuple[str, ...]:
    for size in sizes:
        if not _SIZE.fullmatch(size):
            raise ValueError(f"expected WIDTHxHEIGHT in pixels, as 3384x2710; got '{size}'")
    return sizes


class Inference(Section):
    """How view servers run their models; beyond rounding only buckets change an answer.

    precision:        `auto` is bf16 on a GPU and float32 without
    compile:          backbone and neck become one graph for each size of network input, made while a replica starts;
                      other sizes are computed without one
    compile_cache:    folder in which compiled kernels are kept, so that a restart need not make them again; on storage
                      that all nodes see, or on each node. What it holds is run: nobody else may write there
    size_bucket_px:   with `compile`, network inputs are padded with zeros to multiples of it, so that there are few
                      graphs. 32 changes no answer; more moves scores near the right and lower edges, and those of a
                      network that looks at whole maps, by group norms, squeezing or pooled context, everywhere
    image_sizes:      WIDTHxHEIGHT of the pictures to come, on which a replica warms up: their graphs are compiled and
                      their memory is taken before the first request
    batch_megapixels: network pixels of one forward. Tiles of a grid and pictures of one size that wait at the same time
                      share a forward up to that; `auto` is 24 on a GPU, and 2 without, where each picture is alone
    """

    precision: Literal["auto", "bf16", "float32"] = "auto"
    compile: bool = False
    compile_cache: Path | None = None
    size_bucket_px: Annotated[int, Field(ge=32, multiple_of=32)] = 32
    image_sizes: Annotated[tuple[str, ...], AfterValidator(_check_sizes)] = ()
    batch_megapixels: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"

    @model_validator(mode="after")
    def _check_compile(self) -> Self:
        if self.compile and not self.image_sizes:
            raise ValueError(
                "image_sizes: expected at least one beside compile, whose graphs are made before requests come"
            )
        return self

    @property
    def sizes_hw(self) -> tuple[tuple[int, int], ...]:
        """`image_sizes` as (height, width)."""
        pairs = (size.split("x") for size in self.image_sizes)
        return tuple((int(height), int(width)) for width, height in pairs)

    @property
    def batch_px(self) -> int | None:
        """`batch_megapixels` in pixels; None for `auto`."""
        return None if self.batch_megapixels == "auto" else round(self.batch_megapixels * 1e6)
