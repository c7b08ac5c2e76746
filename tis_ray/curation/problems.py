"""What may be wrong with a data set: every kind of problem, how many there are of it, and examples."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

MOST_EXAMPLES = 20

Level = Literal["error", "warning", "remark"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem. An `error` stops training; a `warning` is likely a mistake; a `remark` may be meant so."""

    title: str
    level: Level
    advice: str


KINDS: dict[str, Kind] = {
    "image entry": Kind("images refused by training", "error", "Mend or remove these entries of `images`."),
    "annotation entry": Kind("annotations refused by training", "error", "Mend or remove these annotations."),
    "missing picture": Kind("pictures missing", "error", "Copy the files, or name their folder by --images."),
    "unreadable picture": Kind("pictures unreadable or cut short", "error", "Copy these files again."),
    "other size": Kind("pictures of another size than is listed", "error", "Annotate the pixels as they are stored."),
    "label image": Kind("label images unreadable", "error", "Copy these files again."),
    "rotated picture": Kind(
        "pictures that viewers turn (EXIF)",
        "warning",
        "Training takes the pixels as they are stored: see whether the boxes lie on the objects, or rewrite the files.",
    ),
    "same picture": Kind(
        "pictures that are copies of another", "warning", "Keep one of each, and never one in train and one in val."
    ),
    "empty mask": Kind("masks without pixels", "warning", "Nothing is learnt of these masks: remove or redraw them."),
    "no area": Kind("boxes without area", "warning", "Training leaves these objects out."),
    "mask off box": Kind(
        "masks far from their boxes", "warning", "The box is learnt from `bbox`: mend one of the two."
    ),
    "other area": Kind(
        "areas far from those of the masks",
        "warning",
        "Scores by size go by `area`: it should count the mask's pixels.",
    ),
    "same object": Kind("objects annotated twice", "warning", "Remove one: the detector is punished for either."),
    "contradiction": Kind(
        "classes both annotated and said to be absent", "warning", "Take them from the image's `neg_category_ids`."
    ),
    "class only in val": Kind(
        "classes in val that are not trained", "error", "Training refuses a val with such classes."
    ),
    "unseen in train": Kind("classes with objects in val alone", "warning", "Nothing of them can be learnt."),
    "picture in both": Kind(
        "pictures both in train and in val", "warning", "Their scores say nothing of new pictures."
    ),
    "tiny object": Kind("objects of less than 2 px", "remark", "Sides below two pixels are hardly found by anything."),
    "class without objects": Kind("classes without objects", "remark", "They cannot be learnt and are not scored."),
    "image without objects": Kind("images without objects", "remark", "They teach what is background."),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: its kind, and where, for a person."""

    kind: str
    where: str


@dataclass(slots=True)
class Problems:
    """How many problems there are of each kind, and the first examples of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, problems: Iterable[Problem]) -> None:
        """Take note of more."""
        for problem in problems:
            self.counts[problem.kind] += 1
            examples = self.examples.setdefault(problem.kind, [])
            if len(examples) < MOST_EXAMPLES:
                examples.append(problem.where)

    def found(self, *levels: Level) -> list[str]:
        """The kinds that were found, of these levels or of all, the worst first."""
        return [kind for kind, about in KINDS.items() if self.counts[kind] and (not levels or about.level in levels)]

    def verdict(self) -> str:
        """All of it in a few words."""
        words = []
        for level in ("error", "warning", "remark"):
            number = sum(self.counts[kind] for kind in self.found(level))
            words += [f"{number:,} {level}{'s' if number > 1 else ''}"] if number else []
        return ", ".join(words) or "no problems"
