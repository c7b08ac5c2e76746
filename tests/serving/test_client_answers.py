"""What the clients make of a service's answer, and back."""

import pytest

from tests.serving.scripted import ANSWER, RLE, ROW
from tis_ray.errors import InputError
from tis_ray.serving.answers import Result


def test_masks_have_a_score_of_their_own_where_the_service_gives_one():
    rows = [ROW | {"segmentation": RLE, "mask_score": 0.25}, ROW | {"segmentation": RLE}, ROW | {"segmentation": None}]
    result = Result.from_json(ANSWER | {"instances": rows})
    assert [one.mask_score for one in result.instances] == [0.25, None, None]
    coco = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 2], "score": 0.5}
    assert result.to_coco(7) == [coco | {"segmentation": RLE, "mask_score": 0.25}, coco | {"segmentation": RLE}, coco]


VIEW = {"member": "one", "scale": 64, "flip": False, "crop": [1, 2, 3, 4], "tile": None, "crop_name": "strip"}
VIEW |= {"status": "ok", "seconds": 0.25, "instances": 3}


def test_an_answer_comes_back_as_the_service_wrote_it():
    views = [VIEW, VIEW | {"crop": None, "detections": [{"category_id": 3, "score": 0.5}]}]
    rows = [ROW | {"segmentation": RLE, "mask_score": 0.25}, ROW | {"segmentation": [[1, 2, 3, 4, 5, 6]]}]
    answer = ANSWER | {"instances": rows, "views": views}
    result = Result.from_json(answer)
    assert result.views[0].crop == (1, 2, 3, 4)
    written = result.to_json()
    assert Result.from_json(written) == result
    assert list(written) == list(answer)
    assert written["instances"] == [row | {"bbox": tuple(row["bbox"])} for row in rows]
    assert [list(view) for view in written["views"]] == [list(view) for view in views]


def test_what_a_newer_service_adds_is_left_out():
    more = {"image": ANSWER["image"] | {"x": 1}, "instances": [ROW | {"segmentation": None, "x": 1}], "x": 1}
    assert Result.from_json(ANSWER | more) == Result.from_json(ANSWER)


@pytest.mark.parametrize("answer", [{}, [], None, ANSWER | {"views": [1]}, ANSWER | {"instances": [{"bbox": []}]}])
def test_what_is_no_answer_is_refused(answer):
    with pytest.raises(InputError, match=r"answer: expected that of /v1/segment; got something else"):
        Result.from_json(answer)
