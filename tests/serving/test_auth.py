"""Bearer tokens: who is let in, and that a service without any does not start."""

import pytest

from tis_ray.config import Ensemble
from tis_ray.errors import ConfigError
from tis_ray.serving.auth import Doorkeeper, read_tokens
from tis_ray.serving.problems import ProblemError

MEMBERS = {"a": {"checkpoint": "a", "scales": [64]}}
CLOSED = Ensemble.model_validate({"members": MEMBERS})
OPEN = Ensemble.model_validate({"members": MEMBERS, "auth": "none"})


def test_reads_tokens_from_the_environment():
    assert read_tokens(CLOSED, {"TIS_RAY_TOKENS": "one, two,,"}) == ("one", "two")


@pytest.mark.parametrize("environment", [{}, {"TIS_RAY_TOKENS": ""}, {"TIS_RAY_TOKENS": " , "}])
def test_refuses_to_start_without_tokens(environment):
    with pytest.raises(ConfigError, match=r"auth: expected tokens .*TIS_RAY_TOKENS.*'auth: none'"):
        read_tokens(CLOSED, environment)


def test_auth_none_lets_everybody_in():
    tokens = read_tokens(OPEN, {"TIS_RAY_TOKENS": "one"})
    assert tokens == ()
    Doorkeeper(tokens).check(None)


@pytest.mark.parametrize("header", ["Bearer one", "bearer two", "Bearer  two"])
def test_a_right_token_opens(header):
    Doorkeeper(("one", "two")).check(header)


@pytest.mark.parametrize("header", [None, "", "one", "Basic one", "Bearer", "Bearer three", "Bearer on", "Bearer é"])
def test_anything_else_is_a_401(header):
    with pytest.raises(ProblemError) as error:
        Doorkeeper(("one", "two")).check(header)
    assert error.value.status == 401
    assert error.value.headers == {"WWW-Authenticate": "Bearer"}
    assert "one" not in str(error.value.members)
