"""What the commands share: options, where lines are printed, and checks of where results go."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from tis_ray.errors import ConfigError

if TYPE_CHECKING:
    from tis_ray.formats.bad_entries import BadEntries

PLACE = "PATH|URL"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the file; may be repeated.")
]

SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out what is wrong, and say what, in place of refusing.")
]


def console() -> Console:
    """Where results are printed: stdout."""
    return Console(highlight=False)


def progress() -> Progress:
    """A progress bar on stderr, so that results on stdout can be piped."""
    from tis_ray.results.progress import bar

    return bar(Console(stderr=True))


def news(line: str) -> None:
    """One line on stderr, as it is."""
    print(line, file=sys.stderr, flush=True)


def say(line: str) -> None:
    """One line of news on stdout, at once; paths in it are neither broken nor taken for markup."""
    print(line, flush=True)


def tell_bad(bad: "BadEntries", what: str) -> None:
    """What was left out, if anything, on stderr."""
    if bad.total:
        news(f"left out: {bad.told(what)}")


def check_out(option: str, out: Path | None) -> None:
    """Refuse before the work begins what could not be written after it."""
    if out is None:
        return
    if option in ("--out", "--plot") and out.is_dir():
        raise ConfigError(f"{option}: expected a file; {out} is a folder")
    if option == "--overlay" and out.suffix and out.suffix.lower() not in PICTURES:
        raise ConfigError(f"--overlay: expected a folder or a file of {', '.join(PICTURES)}; got {out}")
    out.parent.mkdir(parents=True, exist_ok=True)


def check_folder(option: str, folder: Path | None) -> None:
    """Refuse before the work begins a folder that cannot be made after it, and make it."""
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{option}: expected a folder; {folder} is a file")
    folder.mkdir(parents=True, exist_ok=True)


def data_place(key: str, text: str) -> Path:
    """The path, or what lies behind the URL, that an argument or option of the name `key` says."""
    from tis_ray.config.data_path import place

    try:
        return place(text)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None


def optional_place(key: str, text: str | None) -> Path | None:
    """The same of an option that may be left out."""
    return None if text is None else data_place(key, text)


def size_wh(option: str, text: str) -> tuple[int, int]:
    """Width and height from a text as 512x384."""
    width, separator, height = text.lower().partition("x")
    if not separator or not all(edge.isdecimal() and int(edge) for edge in (width, height)):
        raise ConfigError(f"{option}: expected WIDTHxHEIGHT in pixels, as 512x384; got '{text}'")
    return int(width), int(height)
