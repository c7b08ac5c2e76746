"""Sending a request to the service until it is answered, for a bounded number of tries and a bounded time."""

import time

import httpx

_FIRST_PAUSE_S = 0.5
_LOST = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)
_REFUSED = (httpx.ConnectError, httpx.ConnectTimeout)


def send(http: httpx.Client, request: httpx.Request, *, retries: int, timeout_s: float) -> httpx.Response:
    """The response to `request`, sent again up to `retries` times where it may fare better.

    That is after a 503, after Ray's own 500 for a gateway that died with the request, and where the connection broke.
    Between two tries it waits as long as `Retry-After` says, at least a pause that doubles. No try begins more than
    `timeout_s` seconds after the call. The last try's response is returned, whatever it is, and its
    `httpx.HTTPError` raised.
    """
    end = time.monotonic() + timeout_s
    for attempt in range(retries + 1):
        pause_s = _FIRST_PAUSE_S * 2**attempt
        request.extensions["timeout"] = httpx.Timeout(max(end - time.monotonic(), 0.01)).as_dict()
        try:
            response = http.send(request)
        except httpx.TransportError as error:
            # A service that was never reached is not there; one that broke off may be back soon.
            passing = isinstance(error, _LOST) or (attempt > 0 and isinstance(error, _REFUSED))
            if not passing or attempt == retries or time.monotonic() + pause_s > end:
                raise
        else:
            pause_s = max(pause_s, _asked_pause_s(response))
            if not _is_passing(response) or attempt == retries or time.monotonic() + pause_s > end:
                return response
        time.sleep(pause_s)
    raise AssertionError("the last try returns or raises")


def _is_passing(response: httpx.Response) -> bool:
    ours = response.headers.get("Content-Type", "").startswith("application/problem+json")
    return response.status_code == 503 or (response.status_code == 500 and not ours)


def _asked_pause_s(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0
