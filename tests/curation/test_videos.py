"""Which video an image belongs to."""

import re
from pathlib import Path

import pytest

from tis_ray.curation.videos import videos_of_entries, videos_of_frames
from tis_ray.errors import ConfigError, DataError

HERE = Path("set.json")


def test_video_ids_come_before_folders():
    images = [{"file_name": f"{i}/a.jpg", "video_id": i // 2} for i in range(4)]
    assert videos_of_entries(HERE, images, pattern=None) == ["video_id 0", "video_id 0", "video_id 1", "video_id 1"]


def test_folders_are_videos_where_nothing_else_is_said():
    images = [{"file_name": "clips/a/1.jpg"}, {"file_name": "clips\\a\\2.jpg"}, {"file_name": "clips/b/1.jpg"}]
    assert videos_of_entries(HERE, images, pattern=None) == ["clips/a", "clips/a", "clips/b"]


def test_a_pattern_finds_them_in_names():
    images = [{"file_name": "cam1_17_0001.jpg", "video_id": 1}, {"file_name": "cam2_17_0001.jpg", "video_id": 2}]
    assert videos_of_entries(HERE, images, pattern=r"_(\d+)_") == ["17", "17"]


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        (None, ConfigError, "expected images with a video_id, or of several folders; got 2 images in one folder"),
        ("(", ConfigError, "--video-pattern: expected a regular expression; got '('"),
        (r"\d", ConfigError, r"expected one group \(\.\.\.\), the video; got 0"),
        ("(x)", DataError, "expected '(x)' in every name; not in '1.jpg'"),
    ],
)
def test_what_says_nothing_is_refused(pattern: str | None, error: type[Exception], message: str):
    with pytest.raises(error, match=message if "\\" in message else re.escape(message)):
        videos_of_entries(HERE, [{"file_name": "1.jpg"}, {"file_name": "2.jpg"}], pattern=pattern)


def test_wads_recordings_end_where_no_camera_has_a_frame_for_ten_seconds():
    names = [
        "170908_061502408_Camera_5",
        "170908_061512300_Camera_6",  # 9.9 s on, of the other camera
        "170908_061522285_Camera_5",
        "170908_061532285_Camera_5",  # 10 s on
        "170909_061502408_Camera_5",  # another day
    ]
    assert videos_of_frames(names[::-1], (), pattern=None)[::-1] == [f"recording {i}" for i in (1, 1, 1, 2, 3)]


def test_a_recording_may_go_over_midnight():
    names = ["170908_235959900_Camera_5", "170909_000000100_Camera_5"]
    assert videos_of_frames(names, (), pattern=None) == ["recording 1", "recording 1"]


@pytest.mark.parametrize("name", ["frame_0001", "170908_0615_Camera_5", "171399_061502408_Camera_5"])
def test_other_names_than_wads_are_refused(name: str):
    with pytest.raises(ConfigError, match=f"expected frames named as WAD's are .*; got {name}"):
        videos_of_frames([name], (), pattern=None)


def test_lists_are_videos_and_those_of_two_cameras_one(tmp_path: Path):
    def written(name: str, *frames: str) -> Path:
        path = tmp_path / name
        path.write_text(
            "".join(f"road01_ins\\ColorImage\\Record014\\Camera 5\\{frame}.jpg\tlabel\n" for frame in frames)
        )
        return path

    five = written("road01_cam_5_video_4_image_list_train.txt", "a", "b")
    six = written("road01_cam_6_video_4_image_list_train.txt", "c")
    other = written("road02_cam_5_video_4_image_list_train.txt", "d")
    first, second, third, fourth = videos_of_frames(["a", "b", "c", "d"], [five, six, other], pattern=None)
    assert first == second == third != fourth
    with pytest.raises(DataError, match="1 are in none, as e"):
        videos_of_frames(["a", "e"], [five], pattern=None)
    with pytest.raises(DataError, match="expected each frame in one video; got a"):
        videos_of_frames(["a"], [five, written("road09.txt", "a")], pattern=None)
