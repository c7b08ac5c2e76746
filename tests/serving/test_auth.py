"""Bearer tokens: who is let in, and that a service without any does not start."""

import contextlib
import logging
import os

import pytest
import yaml

from tis_ray.config import Ensemble, load_ensemble
from tis_ray.errors import ConfigError
from tis_ray.serving.auth import ENOUGH_CHARACTERS, Doorkeeper, current_tokens, read_tokens
from tis_ray.serving.problems import ProblemError

MEMBERS = {"a": {"checkpoint": "a", "scales": [64]}}
CLOSED = Ensemble.model_validate({"members": MEMBERS})
OPEN = Ensemble.model_validate({"members": MEMBERS, "auth": "none"})


def test_reads_tokens_from_the_environment():
    assert read_tokens(CLOSED, {"TIS_RAY_TOKENS": "one, two,,"}) == ("one", "two")


def test_a_token_that_no_header_can_carry_is_refused_unseen(closed_by_file, tmp_path):
    with pytest.raises(
        ConfigError, match="auth: expected tokens of printable ASCII characters in TIS_RAY_TOKENS"
    ) as error:
        read_tokens(CLOSED, {"TIS_RAY_TOKENS": "one,schlüssel"})
    assert "schl" not in str(error.value)
    write(tmp_path / "tokens", "first\nschlüssel\n")
    with pytest.raises(ConfigError, match=r"auth\.tokens_file: expected printable ASCII characters in line 2") as error:
        read_tokens(closed_by_file)
    assert "schl" not in str(error.value)


@pytest.mark.parametrize("environment", [{}, {"TIS_RAY_TOKENS": ""}, {"TIS_RAY_TOKENS": " , "}])
def test_refuses_to_start_without_tokens(environment):
    with pytest.raises(ConfigError, match=r"auth: expected a tokens_file, or tokens .*TIS_RAY_TOKENS.*'auth: none'"):
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


@pytest.fixture
def closed_by_file(tmp_path):
    """An ensemble whose tokens are in `tokens`, beside its own file."""
    path = tmp_path / "ensemble.yaml"
    path.write_text(yaml.safe_dump({"members": MEMBERS, "auth": {"tokens_file": "tokens"}}))
    write(tmp_path / "tokens", "# the camera\nfirst\n\n  second  # the batch machine\n")
    return load_ensemble(path)


def write(path, text: str, *, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def test_reads_tokens_from_a_file_beside_the_ensembles(closed_by_file):
    assert read_tokens(closed_by_file, {"TIS_RAY_TOKENS": "of the environment"}) == ("first", "second")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(None, "a readable file; got .*tokens .No such file", id="no file"),
        pytest.param("# nobody yet\n\n", "at least one token, one to a line; got none in .*tokens", id="no token"),
        pytest.param("good\nsecret words\n", "one token in line 2 of .*tokens; got 2", id="two in a line"),
    ],
)
def test_a_file_without_tokens_is_refused_and_its_words_are_kept(closed_by_file, tmp_path, text, message):
    (tmp_path / "tokens").unlink() if text is None else (tmp_path / "tokens").write_text(text)
    with pytest.raises(ConfigError, match=f"auth.tokens_file: expected {message}") as error:
        read_tokens(closed_by_file)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_warns_of_a_file_that_everybody_can_read(closed_by_file, tmp_path, caplog, mode, warned):
    (tmp_path / "tokens").chmod(mode)
    with caplog.at_level(logging.WARNING, "ray.serve"):
        read_tokens(closed_by_file)
    assert ("can be read by every user" in caplog.text) == warned


def test_warns_of_tokens_that_may_be_guessed_and_keeps_them_to_itself(closed_by_file, tmp_path, caplog):
    long = "a" * ENOUGH_CHARACTERS
    write(tmp_path / "tokens", f"{long}\n# short\nswordfish\n")
    with caplog.at_level(logging.WARNING, "ray.serve"):
        read_tokens(closed_by_file)
        read_tokens(CLOSED, {"TIS_RAY_TOKENS": f"{long},hunter2"})
        read_tokens(CLOSED, {"TIS_RAY_TOKENS": long})
    assert len(caplog.records) == 2
    assert "the token in line 3 of" in caplog.text
    assert "a token in TIS_RAY_TOKENS has fewer than 20 characters" in caplog.text
    assert "swordfish" not in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("sent", ["", "x", "first", "second", "f" * 5000])
def test_what_is_sent_is_held_against_every_token_in_the_same_way(monkeypatch, sent):
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    with contextlib.suppress(ProblemError):
        Doorkeeper(("first", "second", "third")).check(f"Bearer {sent}")
    assert compared == [(32, 32)] * 3


def test_tokens_change_with_their_file(closed_by_file, tmp_path, caplog):
    door = Doorkeeper(current_tokens(closed_by_file))
    door.check("Bearer first")
    write(tmp_path / "tokens", "third\n")
    door.check("Bearer third")
    with pytest.raises(ProblemError):
        door.check("Bearer first")
    (tmp_path / "tokens").unlink()
    door.check("Bearer third")
    assert "the tokens stay as they were" in caplog.text
    write(tmp_path / "tokens", "fourth\n")
    os.utime(tmp_path / "tokens", ns=(0, 0))
    door.check("Bearer fourth")
