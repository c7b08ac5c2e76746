"""The page that puts two sets of results side by side."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import orjson

from tis_ray import whole_files
from tis_ray.evaluation.error_curves import CURVES
from tis_ray.evaluation.paired import FEWEST_IMAGES, Difference, Paired
from tis_ray.explaining import pictures
from tis_ray.explaining.comparing import Compared, verdict
from tis_ray.explaining.explanation import Explanation
from tis_ray.explaining.report import FIGURES, PAGE
from tis_ray.explaining.words import count, interval, percent, points
from tis_ray.reports import plots
from tis_ray.reports.page import Block, Cell, Figure, Page, Picture, Pictures, Section, Table, Text, write

_MOST_CLASSES = 40
_MOST_BARS = 16
_SIDE_PX = 640
_NAMES = {"bbox": "box", "segm": "mask"}


def write_comparison(folder: Path, compared: Compared, *, num_pictures: int = 6) -> Path:
    """Write `report.html`, its plots as PNG and `figures.json` into a folder, and return the page's path.

    `num_pictures` images that got better are shown, and as many that got worse.
    """
    folder.mkdir(parents=True, exist_ok=True)
    a, b = compared.names
    sections = [
        Section("Scores", _score_blocks(compared, folder)),
        Section("Sizes of objects", _size_blocks(compared, folder)),
        Section("Classes", _class_blocks(compared, folder)),
        Section("What the errors cost", _error_blocks(compared)),
        *_image_sections(compared, num_pictures),
    ]
    write(Page(f"{b} against {a}", verdict(compared), sections), folder / PAGE)
    whole_files.write(folder / FIGURES, orjson.dumps(compared.to_json(), option=orjson.OPT_INDENT_2))
    return folder / PAGE


def difference_rows(differences: Mapping[str, Difference]) -> list[tuple[str, ...]]:
    """Name, both scores, the difference, its interval, and what that means, as texts."""
    return [
        (name, percent(one.a), percent(one.b), points(one.value), interval(one.interval), _meaning(one))
        for name, one in differences.items()
    ]


def headers_of(compared: Compared, first: str) -> list[str]:
    """Of a table of `difference_rows`."""
    a, b = compared.names
    return [first, a, b, "points", "95% interval", ""]


def _meaning(one: Difference) -> str:
    if np.isnan(one.value):
        return ""
    if one.interval is None:
        return "no interval"
    return ("better" if one.value > 0 else "worse") if one.beyond_chance else "within chance"


def _score_blocks(compared: Compared, folder: Path) -> list[Block]:
    paired = compared.main
    told = (
        f"{count(paired.num_images, 'image')}, drawn anew {count(paired.num_samples, 'time')}, the same for both: the "
        "interval holds the middle 95% of the differences. Where it leaves 0 out, the difference is not explained by "
        "which images happen to be in the set. Another training of the same model is no part of that. Of what fewer "
        f"than {FEWEST_IMAGES} images have, draws say nothing."
    )
    blocks: list[Block] = [Text(told)]
    defined = {name: one for name, one in paired.scores.items() if not np.isnan(one.value)}
    if defined:
        blocks.append(_figure(defined, f"{compared.a.word} scores", folder / "differences.png"))
    for kind, each in compared.by_kind.items():
        blocks.append(Table(headers_of(compared, _NAMES[kind]), difference_rows(each.scores)))
    return blocks


def _size_blocks(compared: Compared, folder: Path) -> list[Block]:
    sizes = {f"{name} px": one for name, one in compared.main.sizes.items() if not np.isnan(one.value)}
    if not sizes:
        return [Text("There is no object.")]
    return [
        _figure(sizes, f"{compared.a.word} AP by size of the objects", folder / "sizes.png"),
        Table(headers_of(compared, "size"), difference_rows(sizes)),
    ]


def _class_blocks(compared: Compared, folder: Path) -> list[Block]:
    paired = compared.main
    known = {name: one for name, one in paired.classes.items() if not np.isnan(one.value)}
    if not known:
        return [Text("There is no object.")]
    ranked = dict(sorted(known.items(), key=lambda item: -abs(item[1].value)))
    beyond = [name for name, one in known.items() if one.beyond_chance]
    told = f"Of {count(len(known), 'class', 'classes')} with objects, {len(beyond):,} differ beyond chance."
    if len(known) > 10:
        told += f" About {0.05 * len(known):.0f} would seem to if there were no difference at all."
    shown = dict(list(ranked.items())[:_MOST_BARS])
    table_rows = dict(list(ranked.items())[:_MOST_CLASSES])
    of = f"{len(table_rows)} of {len(known):,} classes, those that differ most"
    return [
        Text(told),
        _figure(shown, f"{compared.a.word} AP of the classes that differ most", folder / "classes.png"),
        Table(headers_of(compared, "class"), difference_rows(table_rows), folded=of),
    ]


def _error_blocks(compared: Compared) -> list[Block]:
    if not compared.a.num_objects().any():
        return [Text("There is no object.")]
    first, second = compared.a.curves.numbers(), compared.b.curves.numbers()
    rows: list[tuple[Cell, ...]] = [
        (name, percent(first[name]), percent(second[name]), points(second[name] - first[name])) for name in CURVES
    ]
    told = (
        "The seven curves of either; from one to the next the difference is what errors of a kind cost. C75 and C50 "
        "ask for overlaps of 0.75 and 0.5, Loc for 0.1; Sim and Oth forgive mistaken classes, BG what is found where "
        "nothing is, FN what is missed."
    )
    return [Text(told), Table(["curve", *compared.names, "points"], rows)]


def _image_sections(compared: Compared, number: int) -> list[Section]:
    changes = compared.changes()
    order = np.argsort(-changes, kind="stable")
    better = [int(i) for i in order if changes[i] > 0]
    worse = [int(i) for i in order[::-1] if changes[i] < 0]
    a, b = compared.names
    told = (
        f"{count(len(better), 'image')} got better from {a} to {b}, {len(worse):,} worse, "
        f"{len(changes) - len(better) - len(worse):,} stayed as they were, by quality: how far hits overlap their "
        f"objects, less what is missed and false, of what has a score of {compared.a.min_score:.2f} or more in {a} and "
        f"{compared.b.min_score:.2f} or more in {b}. Blue is found and right, orange is missed or false."
    )
    sections, spent = [Section("Images", [Text(told)])], 0
    for title, chosen in ((f"Better in {b}", better[:number]), (f"Worse in {b}", worse[:number])):
        shown, spent = pictures.within_budget(list(chain(*(_three(compared, i, changes[i]) for i in chosen))), spent)
        if shown:
            sections.append(Section(title, [Pictures(shown)]))
    return sections


def _three(compared: Compared, image: int, change: float) -> Sequence[Picture]:
    """What is there, as `a` found it, and what each found."""
    record = compared.a.dataset.images[image]
    pixels = pictures.read(record)
    if pixels is None:
        return []
    a, b = compared.names
    sides = [pictures.there(compared.a, image), *(pictures.found(one, image) for one in (compared.a, compared.b))]
    window = pictures.window_of(sides, (record.height, record.width))
    told = (f"{record.file_name}, quality {points(change)}: what is there; orange is what {a} missed", a, b)
    counts = ("", *(_counts(one, image) for one in (compared.a, compared.b)))
    return [
        Picture(pictures.enlarged(pixels, side, window, to_px=0, max_side=_SIDE_PX), f"{name}{of}", f"{name}{of}")
        for side, name, of in zip(sides, told, counts, strict=True)
    ]


def _counts(one: Explanation, image: int) -> str:
    quality = one.images
    return f": {quality.hits[image]} found, {quality.missed[image]} missed, {quality.false[image]} false"


def _figure(differences: Mapping[str, Difference], what: str, png: Path) -> Figure:
    values = {name: 100 * one.value for name, one in differences.items()}
    intervals = {
        name: None if one.interval is None else (100 * one.interval[0], 100 * one.interval[1])
        for name, one in differences.items()
    }
    svg = plots.differences(values, intervals, xlabel="difference in points, right is better", png=png)
    alt = f"Differences of {what}: " + ", ".join(f"{name} {points(one.value)}" for name, one in differences.items())
    return Figure(svg, alt, f"Differences of {what}, with 95% intervals; grey ones are within chance.")


def paired_of(compared: Compared) -> Sequence[tuple[str, Paired]]:
    """The differences by the words `box` and `mask`."""
    return [(_NAMES[kind], one) for kind, one in compared.by_kind.items()]
