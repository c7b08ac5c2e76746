"""The page that shows what a data set holds and what is wrong with it."""

from collections.abc import Mapping, Sequence

import numpy as np

from tis_ray.curation.check import Findings
from tis_ray.curation.problems import KINDS, Problems
from tis_ray.reports import plots
from tis_ray.reports.page import Block, Cell, Figure, Page, Picture, Pictures, Row, Section, Table, Text
from tis_ray.reports.plots import Values

MARKS_PX = (8, 32, 96)  # 32 and 96 are where COCO's small and medium objects end
_MOST_BARS = 30
_FREQUENCIES = {"f": "frequent (more than 100 images)", "c": "common (11 to 100)", "r": "rare (1 to 10)"}


def page_of(findings: Findings, *, whole: Sequence[Picture] = (), smallest: Sequence[Picture] = ()) -> Page:
    """The page of a data set, with pictures of some of its images and of its smallest objects."""
    truth = findings.truth
    images, objects, classes = len(truth), len(findings.areas), len(truth.categories)
    lead = (
        f"{images:,} images with {objects:,} objects of {classes:,} classes"
        f"{f' and {findings.crowds:,} regions to ignore' if findings.crowds else ''}: {findings.problems.verdict()}."
    )
    sections = [
        Section("What is wrong", problem_blocks(findings)),
        Section("How large objects are", _size_blocks(findings)),
        Section("Classes", _class_blocks(findings)),
        Section("Images", _image_blocks(findings)),
    ]
    if smallest:
        text = Text("The smallest objects with a mask, one of an image, enlarged so that single pixels are seen.")
        sections.append(Section("The smallest objects", [text, Pictures(smallest)]))
    if whole:
        sections.append(Section("Some images", [Text("Drawn at random, those with objects."), Pictures(whole)]))
    return Page(f"Data set {truth.path.name}", lead, sections)


def problem_rows(problems: Problems) -> list[tuple[str, int, str]]:
    """Level, number and title of each kind that was found, the worst first."""
    return [(KINDS[kind].level, problems.counts[kind], KINDS[kind].title) for kind in problems.found()]


def problem_blocks(findings: Findings) -> list[Block]:
    """A table of what was found, and examples of each kind."""
    problems = findings.problems
    looked = f"Headers of all pictures were read, and every pixel of {findings.decoded:,} of {len(findings.truth):,}."
    if not findings.decoded:
        looked = "Pictures were not looked at."
    rows = [
        (title, number, level, KINDS[kind].advice)
        for kind, (level, number, title) in zip(problems.found(), problem_rows(problems), strict=True)
    ]
    blocks: list[Block] = [Text(looked)]
    blocks += [Table(["problem", "number", "level", "what to do"], rows)] if rows else [Text("Nothing was found.")]
    for kind in problems.found():
        examples = problems.examples[kind]
        of = f"{len(examples)} of {problems.counts[kind]:,}" if problems.counts[kind] > len(examples) else "all"
        blocks.append(Table(["where"], [[where] for where in examples], folded=f"{KINDS[kind].title}: {of}"))
    return blocks


def shares(scales: Values) -> dict[float, float]:
    """The share of objects of at most each of `MARKS_PX`."""
    return {mark: plots.share_below(scales, mark) for mark in MARKS_PX}


def _size_blocks(findings: Findings) -> list[Block]:
    scales = findings.scales
    if not len(scales):
        return [Text("There are no objects with an area.")]
    sizes = {record.id: np.sqrt(record.height * record.width) for record in findings.truth.images}
    frames = np.array([sizes[id_] for id_ in findings.image_ids[findings.areas > 0].tolist()])
    below = ", ".join(f"{share:.0%} below {mark:g} px" for mark, share in shares(scales).items())
    text = (
        f"The size of an object is the root of its mask's area, in pixels of its image: {below}; the smallest has "
        f"{scales.min():.1f} px, the median {np.median(scales):.1f} px, the largest {scales.max():.0f} px."
    )
    relative = 100 * scales / frames
    return [
        Text(text),
        Row(
            [
                Figure(
                    plots.cumulative(scales, xlabel="object size, sqrt(mask area) in px", ylabel="share of objects",
                                     marks=MARKS_PX),
                    f"Cumulative share of objects by size: {below}",
                    "Share of objects up to a size, in pixels.",
                ),
                Figure(
                    plots.cumulative(relative, xlabel="object size in % of its image's", ylabel="share of objects"),
                    "Cumulative share of objects by their size relative to their image",
                    "The same, relative to the root of the image's area, which stays as it is when images are resized.",
                ),
            ]
        ),
    ]  # fmt: skip


def _class_blocks(findings: Findings) -> list[Block]:
    categories, scales = findings.truth.categories, np.sqrt(findings.areas)
    rows: list[tuple[str, int, int, Cell, Cell]] = []
    for id_, name in zip(categories.ids, categories.names, strict=True):
        own = findings.category_ids == id_
        sizes = scales[own & (findings.areas > 0)]
        median, small = (float(np.median(sizes)), f"{np.mean(sizes < 32):.0%}") if len(sizes) else (None, None)
        rows.append((name, int(own.sum()), len(np.unique(findings.image_ids[own])), median, small))
    rows.sort(key=lambda row: -row[1])
    counts = {name: number for name, number, *_ in rows}
    headers = ["class", "objects", "images", "median size, px", "below 32 px"]
    folded = f"All {len(rows):,} classes"
    return [*_count_figures(counts), *_frequency_table(findings, counts), Table(headers, rows, folded=folded)]


def _count_figures(counts: Mapping[str, int]) -> list[Block]:
    """Counts by class, the most frequent first; where there are many classes, all as a curve beside."""
    numbers = [number for number in counts.values() if number]
    long_tail = bool(numbers) and max(numbers) > 50 * min(numbers)
    shown = dict(list(counts.items())[:_MOST_BARS])
    figures = [
        Figure(
            plots.bars(shown, xlabel="objects", log=long_tail),
            f"Objects of the {len(shown)} most frequent classes",
            f"The {len(shown)} most frequent of {len(counts):,} classes." if len(counts) > len(shown) else "",
        )
    ]
    if len(counts) > len(shown):
        svg = plots.lines({"objects": (range(1, len(numbers) + 1), numbers)}, xlabel="class, the most frequent first",
                          ylabel="objects", log_y=True)  # fmt: skip
        figures.append(Figure(svg, "Objects of every class, the most frequent first", "All classes with objects."))
    return [Row(figures)]


def _frequency_table(findings: Findings, counts: Mapping[str, int]) -> list[Block]:
    """LVIS's groups, where the data set says which class belongs to which."""
    categories = findings.truth.categories
    if not categories.frequency:
        return []
    rows = []
    for group, title in _FREQUENCIES.items():
        names = [name for name, of in zip(categories.names, categories.frequency, strict=True) if of == group]
        here = sum(counts[name] > 0 for name in names)
        rows.append((title, len(names), here, sum(counts[name] for name in names)))
    headers = ["frequency", "classes", "with objects here", "objects here"]
    return [Table(headers, rows, caption="The classes' groups are those that the file says, of LVIS's training set.")]


def _image_blocks(findings: Findings) -> list[Block]:
    records = findings.truth.images
    if not records:
        return [Text("There are no images.")]
    sizes = np.array([(record.height, record.width) for record in records], dtype=np.float64)
    places = np.searchsorted([record.id for record in records], findings.image_ids)
    counts: Values = np.bincount(places, minlength=len(records)).astype(np.float64)
    aspects = sizes[:, 1] / sizes[:, 0]
    edges = (np.unique(np.round(np.linspace(0, counts.max() + 1, 25))) - 0.5).tolist()
    most = int(np.argmax(counts))
    common = np.unique(sizes, axis=0, return_counts=True)
    order = np.argsort(-common[1], kind="stable")[:8]
    rows = [(f"{common[0][i][1]:.0f} x {common[0][i][0]:.0f}", int(common[1][i])) for i in order]
    text = (
        f"{counts.mean():.1f} objects in an image on average, {np.median(counts):.0f} in the median, at most "
        f"{counts[most]:,.0f} ({records[most].file_name}). Images without objects: {int((counts == 0).sum()):,}."
    )
    ratios: Values = np.logspace(np.log2(min(0.5, aspects.min())), np.log2(max(2, aspects.max())), 31, base=2)
    return [
        Text(text),
        Row(
            [
                Figure(plots.histogram(counts, edges, xlabel="objects in an image", ylabel="images"),
                       "Histogram of objects per image", "Objects per image."),
                Figure(plots.histogram(aspects, ratios, xlabel="width / height", ylabel="images", log_x=True),
                       "Histogram of the images' width by height", "Shapes of images."),
            ]
        ),
        Table(["size, px", "images"], rows, caption=f"The most frequent of {len(common[1]):,} image sizes."),
    ]  # fmt: skip
