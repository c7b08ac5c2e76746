"""The HTTP interface by example: an answer of each kind and the problems of each status, as OpenAPI shows them."""

from typing import Any

from tis_ray.serving.problems import ProblemError

_VIEWS: list[dict[str, Any]] = [
    {"member": "resnet50", "scale": 800, "flip": False, "crop": None, "tile": None, "crop_name": None},
    {"member": "resnet50", "scale": 800, "flip": True, "crop": None, "tile": None, "crop_name": None},
    {
        "member": "swin",
        "scale": 1200,
        "flip": False,
        "crop": [0, 1560, 3384, 2280],
        "tile": None,
        "crop_name": "road",
    },
]
_PERSON: dict[str, Any] = {
    "category_id": 36,
    "category": "person",
    "score": 0.8125,
    "bbox": [2071.0, 1588.0, 9.0, 21.0],
}

_SEGMENT: dict[str, Any] = {
    "image": {
        "width": 3384,
        "height": 2710,
        "sha256": "6008c26f4452392acb19374bc12a5ec0c360ae17356bce8b786fb128c8720951",
    },
    "instances": [
        {
            "category_id": 33,
            "category": "car",
            "score": 0.96875,
            "bbox": [1204.0, 1630.0, 24.0, 18.0],
            "segmentation": {
                "size": [2710, 3384],
                "counts": "lncS36_d22N2N2N2N2O000O2O00000000000001N10001N2N2N2N2NUWXb5",
            },
            "area": 340.0,
        },
        _PERSON | {"segmentation": {"size": [2710, 3384], "counts": "d]Z[59Zd26K4M2O0001N3L5Ji^i[3"}, "area": 149.0},
    ],
    "views": [
        _VIEWS[0] | {"status": "ok", "seconds": 0.21, "instances": 37},
        _VIEWS[1] | {"status": "ok", "seconds": 0.21, "instances": 35},
        _VIEWS[2] | {"status": "ok", "seconds": 0.34, "instances": 52},
    ],
    "degraded": False,
    "timings": {
        "decode_s": 0.061,
        "views_s": 0.35,
        "masks_s": 0.0,
        "fusion_s": 0.004,
        "encode_s": 0.002,
        "total_s": 0.42,
    },
    "model_version": "1f0c6a3be5d2",
}
_BOX_POLYGON = [1204, 1630, 1228, 1630, 1228, 1648, 1204, 1648]

SEGMENT_ANSWERS = {
    "rle": {"summary": "Masks as COCO's compressed RLE", "value": _SEGMENT},
    "polygon": {
        "summary": "Masks as polygons (masks=polygon)",
        "value": _SEGMENT | {"instances": [_SEGMENT["instances"][0] | {"segmentation": [_BOX_POLYGON], "area": 432.0}]},
    },
    "explain": {
        "summary": "Boxes alone, with each view's own (masks=none, explain=true), from an answer that lacks a view",
        "value": _SEGMENT
        | {
            "instances": [_PERSON | {"segmentation": None, "area": 189.0}],
            "views": [
                _VIEWS[0] | {"status": "ok", "seconds": 0.21, "instances": 1, "detections": [_PERSON]},
                _VIEWS[1] | {"status": "ok", "seconds": 0.21, "instances": 0, "detections": []},
                _VIEWS[2] | {"status": "timeout", "seconds": 0.9, "instances": 0},
            ],
            "degraded": True,
        },
    },
}
_ENSEMBLE: dict[str, Any] = {
    "model_version": "1f0c6a3be5d2",
    "views": _VIEWS,
    "deployments": ["resnet50@800", "swin@1200.road"],
    "categories": [{"id": 33, "name": "car"}, {"id": 36, "name": "person"}],
    "fusion": {"rules": [{"nms": {"iou_threshold": 0.5}}], "masks": "best", "top_k": 100},
    "fusion_refused": None,
    "quorum": {"views": 1.0},
    "limits": {"max_bytes": 67108864, "max_pixels": 100000000, "deadline_s": 60.0},
}
ENSEMBLE_ANSWERS = {"two_members": {"summary": "Two members, three views", "value": _ENSEMBLE}}
ALIVE_ANSWERS = {"alive": {"summary": "Alive", "value": {"status": "alive"}}}
_READY = {"ready": True, "detail": "every deployment answered the warm-up image"}
READY_ANSWERS = {"ready": {"summary": "Ready", "value": _READY}}


def _image(status: int, expected: str, got: str) -> ProblemError:
    detail = f"the image cannot be used: expected {expected}; got {got}"
    return ProblemError(status, detail, field="image", expected=expected, got=got)


_NO_TOKEN = "this service needs a token"
_VALID_TOKEN = "Bearer and a valid token"
_TOO_LARGE = "the image is too large"
_PARAMETERS = "one of score_threshold, max_instances, masks, deadline_s, explain"
_ANY_IMAGE = "image/jpeg, image/png, image/webp or another image type, or multipart/form-data with a field 'image'"

# Of each status, under a name: what the service says in that case, numbers apart, word for word.
PROBLEMS: dict[int, dict[str, ProblemError]] = {
    400: {
        "cut_short": _image(400, "a whole JPEG image", "1024 bytes cut short or damaged"),
        "no_image": ProblemError(
            400, "there is no image in the request", field="body", expected="an image", got="0 bytes"
        ),
    },
    401: {
        "missing": ProblemError(401, _NO_TOKEN, field="Authorization", expected=_VALID_TOKEN, got="no token"),
        "wrong": ProblemError(401, _NO_TOKEN, field="Authorization", expected=_VALID_TOKEN, got="a wrong token"),
    },
    408: {
        "stalled": ProblemError(
            408,
            "nothing came for 10 s before the body had arrived",
            field="body",
            expected="all of it",
            got="65536 bytes",
        )
    },
    413: {
        "bytes": ProblemError(
            413, _TOO_LARGE, field="body", expected="at most 67108864 bytes", got="70000000 bytes announced"
        ),
        "pixels": _image(413, "at most 100000000 pixels", "20000 x 10000 = 200000000"),
    },
    415: {
        "text": ProblemError(
            415,
            "the body's content type is not an image's",
            field="Content-Type",
            expected=_ANY_IMAGE,
            got="text/plain",
        )
    },
    422: {
        "out_of_range": ProblemError(
            422,
            "query parameter score_threshold: expected less than or equal to 1",
            field="score_threshold",
            expected="less than or equal to 1",
            got="1.5",
        ),
        "misspelt": ProblemError(
            422,
            f"query parameter max_instance: expected {_PARAMETERS}",
            field="max_instance",
            expected=_PARAMETERS,
            got="50",
        ),
    },
    431: {
        "too_long": ProblemError(
            431, "the headers are too long", field="headers", expected="at most 16384 bytes", got="20480"
        )
    },
    500: {"defect": ProblemError(500, "the service failed on this request; its log says why")},
    503: {
        "busy": ProblemError(503, "64 requests are waiting already"),
        "views_missing": ProblemError(503, "1 of 3 views did not answer: swin@1200.road (timeout)"),
        "stopping": ProblemError(503, "the service is shutting down"),
    },
    504: {"late": ProblemError(504, "the deadline passed while the image was decoded or the answer written")},
}
NOT_READY = {
    "starting": ProblemError(503, "waiting for every deployment to answer the warm-up image"),
    "stopping": PROBLEMS[503]["stopping"],
}
NOT_DESCRIBED = {"no_fusion": ProblemError(503, "the fusion deployment is not there: no answer within 5 s")}
