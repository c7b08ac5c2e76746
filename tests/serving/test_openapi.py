"""The description of the HTTP interface: complete, its examples valid by its own schemas and true by what is said."""

import re

import pytest
from jsonschema import Draft202012Validator
from pycocotools import mask as coco_mask

from tests.serving.test_gateway import fused, gateway, png
from tests.serving.test_routes import IMAGE, ask
from tis_ray.serving.examples import PROBLEMS
from tis_ray.serving.gateway import Gateway
from tis_ray.serving.schemas import SegmentAnswer

OPERATIONS = {
    "segment": ("/v1/segment", "post"),
    "describe": ("/v1/ensemble", "get"),
    "health": ("/healthz", "get"),
    "readiness": ("/readyz", "get"),
}


@pytest.fixture(scope="module")
def api() -> dict:
    return ask("GET", "/openapi.json", tokens=("right",)).json()


def operations(api: dict) -> dict[str, dict]:
    return {f"{method} {path}": one for path, methods in api["paths"].items() for method, one in methods.items()}


def test_operations_have_names_from_which_clients_are_made(api):
    named = {one["operationId"]: tuple(key.split()[::-1]) for key, one in operations(api).items()}
    assert named == OPERATIONS
    for one in operations(api).values():
        assert one["summary"]
        assert set(one["tags"]) <= {tag["name"] for tag in api["tags"]}
    assert "servers" not in api
    assert api["openapi"].startswith("3.1")


def test_what_segment_takes_and_answers(api):
    segment = api["paths"]["/v1/segment"]["post"]
    assert set(segment["responses"]) == {
        *("200", "400", "401", "408", "413", "415", "422", "431", "500", "503", "504"),
    }
    assert {"image/jpeg", "image/png", "multipart/form-data"} <= set(segment["requestBody"]["content"])
    parameters = {parameter["name"]: parameter for parameter in segment["parameters"]}
    assert set(parameters) == {"score_threshold", "max_instances", "masks", "deadline_s", "explain"}
    assert all(parameter["in"] == "query" for parameter in parameters.values())
    for parameter in parameters.values():
        check(api, parameter["schema"], parameter["schema"]["examples"])


def test_the_limits_of_this_very_service_are_told():
    for deadline_s in (7.0, 9.0):
        api = ask(
            "GET", "/openapi.json", service=gateway(max_bytes=777, deadline_s=2, max_deadline_s=deadline_s)
        ).json()
        segment = api["paths"]["/v1/segment"]["post"]
        schema = next(one["schema"] for one in segment["parameters"] if one["name"] == "deadline_s")
        assert schema["anyOf"][0]["maximum"] == deadline_s
        assert segment["requestBody"]["description"].count("At most 777 bytes") == 1


def test_schemas_are_named_once_and_none_is_of_another_library(api):
    assert {"Problem", "SegmentAnswer", "EnsembleAnswer", "AliveAnswer", "ReadyAnswer"} <= set(
        api["components"]["schemas"]
    )
    assert not [name for name in api["components"]["schemas"] if "ValidationError" in name]


def test_a_token_is_asked_for_only_where_there_are_any(api):
    secured = {name for name, one in operations(api).items() if one.get("security") == [{"bearer": []}]}
    assert secured == {"post /v1/segment", "get /v1/ensemble"}
    assert api["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    open_ = ask("GET", "/openapi.json").json()
    assert "securitySchemes" not in open_["components"]
    assert not [one for one in operations(open_).values() if "security" in one or "401" in one["responses"]]


def test_headers_that_say_what_to_do_next_are_described(api):
    for one in operations(api).values():
        for status, header in (("503", "Retry-After"), ("401", "WWW-Authenticate")):
            if status in one["responses"]:
                assert one["responses"][status]["headers"][header]["required"]


def check(api: dict, schema: dict, values: list) -> None:
    validator = Draft202012Validator(schema | {"components": api["components"]})
    for value in values:
        validator.validate(value)


def test_every_answer_has_an_example_that_is_valid_by_its_own_schema(api):
    shown = 0
    for one in operations(api).values():
        for status, answer in one["responses"].items():
            for kind, content in answer["content"].items():
                assert kind == ("application/json" if status == "200" else "application/problem+json")
                values = [example["value"] for example in content["examples"].values()]
                assert values
                check(api, content["schema"], values)
                assert status == "200" or {value["status"] for value in values} == {int(status)}
                shown += len(values)
    assert shown > 30


def test_the_masks_of_the_example_are_masks(api):
    content = api["paths"]["/v1/segment"]["post"]["responses"]["200"]["content"]["application/json"]
    example = content["examples"]["rle"]["value"]
    SegmentAnswer.model_validate(example, strict=True)
    for instance in example["instances"]:
        assert coco_mask.area(instance["segmentation"]) == instance["area"]
        assert coco_mask.toBbox(instance["segmentation"]).tolist() == instance["bbox"]


@pytest.mark.parametrize("query", [{}, {"masks": "polygon"}, {"masks": "none", "explain": "true"}])
def test_a_real_answer_is_valid_by_the_described_schema(api, found, query):
    answer = ask(
        "POST", "/v1/segment", service=gateway(answer=fused(found)), headers=IMAGE, content=png(), params=query
    )
    check(api, {"$ref": "#/components/schemas/SegmentAnswer"}, [answer.json()])
    description = ask("GET", "/v1/ensemble")
    check(api, {"$ref": "#/components/schemas/EnsembleAnswer"}, [description.json()])


def draining() -> Gateway:
    service = gateway()
    service._draining = True
    return service


async def broken(frame, *, image_hw, deadline_s, explain):
    raise RuntimeError("a defect")


def jpeg_of(size: int) -> bytes:
    return b"\xff\xd8\xff" + bytes(size)


SAID = {
    (400, "cut_short"): {"content": jpeg_of(1000)},
    (400, "no_image"): {"content": b""},
    (401, "missing"): {"tokens": ("right",)},
    (401, "wrong"): {"tokens": ("right",), "headers": {"Authorization": "Bearer wrong"}},
    (413, "bytes"): {"content": jpeg_of(1000), "service": gateway(max_bytes=100)},
    (413, "pixels"): {"content": png(), "service": gateway(max_pixels=100)},
    (415, "text"): {"content": b"text", "headers": {"Content-Type": "text/plain"}},
    (422, "out_of_range"): {"params": {"score_threshold": 1.5}},
    (422, "misspelt"): {"params": {"max_instance": 50}},
    (431, "too_long"): {"headers": {"X-Long": "x" * 20_000}},
    (500, "defect"): {"content": png(), "service": gateway(fusion=broken)},
    (503, "stopping"): {"content": png(), "service": draining()},
    (503, "views_missing"): {"content": png(), "service": gateway(answer=fused(None, "ok", "timeout"))},
}


@pytest.mark.parametrize(("status", "name"), SAID, ids=[f"{status} {name}" for status, name in SAID])
def test_the_problems_shown_are_what_the_service_says(status, name):
    request = SAID[status, name]
    response = ask("POST", "/v1/segment", **{"headers": IMAGE} | request)
    assert response.status_code == status
    assert plain(response.json()) == plain(PROBLEMS[status][name].content())


def plain(problem: dict) -> dict:
    """A problem without its numbers and names of views."""
    return {key: re.sub(r"[\w.@/]*\d[\w.]*(/flip)?", "N", str(value)) for key, value in problem.items()}
