"""Which replica of a view server a call goes to: the one that keeps the image's features, else the less busy of two.

Serve pickles this module's class with all that the module holds, so nothing of tis-ray is imported here.
"""

import random
import time
from collections.abc import Sequence
from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

# Of the seconds that a call has, how many it waits for the replica that keeps its features while that one is full.
# Another would have to look at the image anew, which costs both more than the wait.
PATIENCE = 0.25


class KeeperFirst(RequestRouter):
    """Power of two choices, save that a call with an argument `kept` goes to the replica named there."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The replicas among which the least busy gets the call; Serve asks again, after a pause, if all are full."""
        if pending_request is None:
            return [two_of(candidate_replicas)]
        pending_request.routing_context.should_backoff = True
        waited_s = time.time() - pending_request.created_at
        return [keeper_of(candidate_replicas, pending_request.kwargs, waited_s=waited_s) or two_of(candidate_replicas)]


def keeper_of(replicas: Sequence[Any], arguments: dict[str, Any], *, waited_s: float) -> list[Any]:
    """The replica among `replicas` that keeps what a call with these arguments asks for, if it is worth waiting for."""
    kept = arguments.get("kept")
    if kept is None or waited_s > PATIENCE * arguments.get("deadline_s", 0):
        return []
    return [one for one in replicas if one.replica_id.unique_id == kept.replica]


def two_of(replicas: Sequence[Any]) -> list[Any]:
    """Two of the replicas at random, or all where there are fewer."""
    return random.sample(replicas, min(2, len(replicas)))
