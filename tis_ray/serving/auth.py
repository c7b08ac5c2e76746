"""Bearer tokens of the service: any of those in the environment variable TIS_RAY_TOKENS, separated by commas."""

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence

from tis_ray.config import Ensemble
from tis_ray.errors import ConfigError
from tis_ray.serving.problems import ProblemError

VARIABLE = "TIS_RAY_TOKENS"


def read_tokens(ensemble: Ensemble, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The accepted tokens; none where the ensemble says `auth: none`. Raises `ConfigError` where there is neither."""
    if ensemble.auth == "none":
        return ()
    tokens = tuple(token.strip() for token in environment.get(VARIABLE, "").split(",") if token.strip())
    if not tokens:
        raise ConfigError(
            f"auth: expected tokens in the environment variable {VARIABLE}, separated by commas, "
            f"or 'auth: none' in the ensemble to let everybody in; got neither"
        )
    return tokens


class Doorkeeper:
    """Lets in who sends `Authorization: Bearer TOKEN` with one of `tokens`; everybody where there are none."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._digests = [_digest(token) for token in tokens]

    def check(self, authorization: str | None) -> None:
        """Raise a 401 problem unless the header's value is right; takes as long for every wrong token."""
        if not self._digests:
            return
        scheme, _, token = (authorization or "").partition(" ")
        sent = _digest(token.strip())
        matches = [hmac.compare_digest(sent, digest) for digest in self._digests]
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
