"""Which video an image belongs to: neighbouring frames are nearly the same picture and must not be parted."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from tis_ray.errors import ConfigError, DataError
from tis_ray.formats.wad import frames_of

_WAD_NAME = re.compile(r"(\d{6})_(\d{9})_Camera_\d+")  # day, time to the millisecond
_WAD_CAMERA = re.compile(r"cam_\d+_")
_PAUSE = timedelta(seconds=10)  # without a frame of either camera: another recording


def videos_of_entries(path: Path, images: Sequence[Mapping[str, Any]], *, pattern: str | None) -> list[str]:
    """The video of each entry of a COCO file's `images`.

    By `pattern`, a regular expression with one group, found in `file_name`; else by the key `video_id`; else by the
    folder of `file_name`. Raises `ConfigError` where none of them says anything, `DataError` for a name that `pattern`
    is not found in.
    """
    if pattern is not None:
        return [_matched(path, str(entry.get("file_name", "")), _compiled(pattern)) for entry in images]
    if all("video_id" in entry for entry in images):
        return [f"video_id {entry['video_id']}" for entry in images]
    folders = [PurePosixPath(str(entry.get("file_name", "")).replace("\\", "/")).parent.as_posix() for entry in images]
    if len(set(folders)) < 2:
        raise ConfigError(
            f"--by video: expected images with a video_id, or of several folders; got {len(images)} images in "
            f"{'one folder' if images else 'all'} of {path} (--video-pattern finds videos in names)"
        )
    return folders


def videos_of_frames(names: Sequence[str], lists: Sequence[Path], *, pattern: str | None) -> list[str]:
    """The video of each of WAD's frames, by their names without suffix.

    By `pattern`; else by the data set's `lists`, of which each is a video, with those of the other camera; else by
    the time in the names: what lies 10 s or more behind the frame before it begins another one. Both cameras look at
    the same street at the same time.
    """
    if pattern is not None:
        return [_matched(Path(name), name, _compiled(pattern)) for name in names]
    if lists:
        return _by_lists(names, lists)
    times = [_time_of(name) for name in names]
    video, videos = 0, {}
    before: datetime | None = None
    for time, name in sorted(zip(times, names, strict=True)):
        video += before is None or time - before >= _PAUSE
        before, videos[name] = time, f"recording {video}"
    return [videos[name] for name in names]


def _by_lists(names: Sequence[str], lists: Sequence[Path]) -> list[str]:
    found: dict[str, str] = {}
    for source in lists:
        video = _WAD_CAMERA.sub("", source.stem)
        for frame in frames_of(source):
            if found.setdefault(frame, video) != video:
                raise DataError(f"{source}: expected each frame in one video; got {frame} of {found[frame]}, too")
    lost = [name for name in names if name not in found]
    if lost:
        raise DataError(f"--frames: expected lists of all labelled frames; {len(lost)} are in none, as {lost[0]}")
    return [found[name] for name in names]


def _time_of(name: str) -> datetime:
    match = _WAD_NAME.fullmatch(name)
    try:
        if match is not None:
            return datetime.strptime("".join(match.groups()), "%y%m%d%H%M%S%f")
    except ValueError:
        pass
    raise ConfigError(
        "--by video: expected frames named as WAD's are (170908_061522285_Camera_5), --frames or --video-pattern; "
        f"got {name}"
    )


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--video-pattern: expected a regular expression; got '{pattern}' ({error})") from None
    if compiled.groups != 1:
        raise ConfigError(f"--video-pattern: expected one group (...), the video; got {compiled.groups} in '{pattern}'")
    return compiled


def _matched(path: Path, name: str, pattern: re.Pattern[str]) -> str:
    match = pattern.search(name)
    if match is None or match[1] is None:
        raise DataError(f"{path}: --video-pattern: expected '{pattern.pattern}' in every name; not in '{name}'")
    return match[1]
