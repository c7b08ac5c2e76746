"""Bearer tokens of the service: those of a file, one to a line, or of the environment variable TIS_RAY_TOKENS."""

import hashlib
import hmac
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from tis_ray.config import Auth, Ensemble
from tis_ray.errors import ConfigError
from tis_ray.serving.problems import ProblemError

logger = logging.getLogger("ray.serve")

VARIABLE = "TIS_RAY_TOKENS"
ENOUGH_CHARACTERS = 20  # nobody limits how often a client may guess
_SHORT = (
    f"has fewer than {ENOUGH_CHARACTERS} characters and may be guessed; "
    "`python -c 'import secrets; print(secrets.token_urlsafe(32))'` makes one that is not"
)
Tokens: TypeAlias = tuple[str, ...]


def read_tokens(ensemble: Ensemble, environment: Mapping[str, str] = os.environ) -> Tokens:
    """The accepted tokens; none where the ensemble says `auth: none`.

    Raises `ConfigError` where there is neither, for a file that cannot be read, holds none, or whose lines are more
    than a token each, and for letters beyond ASCII; the message names the line and never what is in it.
    """
    if ensemble.auth == "none":
        return ()
    if isinstance(ensemble.auth, Auth):
        return _read_file(ensemble.auth.tokens_file)
    tokens = tuple(token.strip() for token in environment.get(VARIABLE, "").split(",") if token.strip())
    if not all(map(is_sendable, tokens)):
        raise ConfigError(f"auth: expected tokens of printable ASCII characters in {VARIABLE}; got others")
    if any(len(token) < ENOUGH_CHARACTERS for token in tokens):
        logger.warning("auth: a token in %s %s", VARIABLE, _SHORT)
    if not tokens:
        raise ConfigError(
            f"auth: expected a tokens_file, or tokens in the environment variable {VARIABLE}, separated by commas, "
            f"or 'auth: none' in the ensemble to let everybody in; got none of them"
        )
    return tokens


def _read_file(path: Path) -> Tokens:
    try:
        lines = path.read_text().splitlines()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"auth.tokens_file: expected a readable file; got {path} ({reason})") from None
    if mode & 0o004:
        logger.warning("auth.tokens_file: %s can be read by every user of its machine; chmod 600 is better", path)
    tokens = []
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if len(words) > 1:
            raise ConfigError(f"auth.tokens_file: expected one token in line {number} of {path}; got {len(words)}")
        if not all(map(is_sendable, words)):
            raise ConfigError(
                f"auth.tokens_file: expected printable ASCII characters in line {number} of {path}; got others"
            )
        if words and len(words[0]) < ENOUGH_CHARACTERS:
            logger.warning("auth.tokens_file: the token in line %d of %s %s", number, path, _SHORT)
        tokens += words
    if not tokens:
        raise ConfigError(f"auth.tokens_file: expected at least one token, one to a line; got none in {path}")
    return tuple(tokens)


def is_sendable(token: str) -> bool:
    """Whether a header can carry a token: what encoding other letters have there, no two programs agree on."""
    return token.isascii() and token.isprintable()


class TokenFile:
    """The tokens of a file as it is now: read again when it has changed. A file that has become wrong changes nothing
    but is named in the log, so that a slip while editing locks nobody out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()
        self._tokens = _read_file(path)

    def __call__(self) -> Tokens:
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._tokens = _read_file(self._path)
            except ConfigError as error:
                logger.error("the tokens stay as they were: %s", error)
        return self._tokens

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino


def current_tokens(ensemble: Ensemble) -> Callable[[], Tokens]:
    """A function that returns the tokens in force. Raises what `read_tokens` raises."""
    if isinstance(ensemble.auth, Auth):
        return TokenFile(ensemble.auth.tokens_file)
    tokens = read_tokens(ensemble)
    return lambda: tokens


class Doorkeeper:
    """Lets in who sends `Authorization: Bearer TOKEN` with one of `tokens`; everybody where there are none."""

    def __init__(self, tokens: Sequence[str] | Callable[[], Sequence[str]]) -> None:
        self._tokens = tokens if callable(tokens) else lambda: tokens

    @property
    def closed(self) -> bool:
        """Whether it asks for tokens at all."""
        return bool(self._tokens())

    def check(self, authorization: str | None) -> None:
        """Raise a 401 problem unless the header's value is right; takes as long for every wrong token."""
        tokens = self._tokens()
        if not tokens:
            return
        scheme, _, token = (authorization or "").partition(" ")
        sent = _digest(token.strip())
        matches = [hmac.compare_digest(sent, _digest(known)) for known in tokens]
        if scheme.lower() != "bearer" or not any(matches):
            raise ProblemError(
                401,
                "this service needs a token",
                field="Authorization",
                expected="Bearer and a valid token",
                got="no token" if not authorization else "a wrong token",
                headers={"WWW-Authenticate": "Bearer"},
            )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
