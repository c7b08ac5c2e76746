"""A bounded number of pixels that are held at once: who does not fit in waits."""

import asyncio
from collections import deque


class Places:
    """Room for `max_pixels` in all. Who waits is served in the order of coming, so that a large picture gets its turn.

    One that is larger than all the room gets in alone. For one event loop.
    """

    def __init__(self, max_pixels: int) -> None:
        self._free = self._all = max_pixels
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, pixels: int) -> int:
        """Wait for room for `pixels`, and hold it; returns how many there are to give back."""
        pixels = min(pixels, self._all)
        if not self._waiting and pixels <= self._free:
            self._free -= pixels
            return pixels
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((pixels, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._let_in()
            else:  # it was given room in the moment in which it went away
                self.give_back(pixels)
            raise
        return pixels

    def give_back(self, pixels: int) -> None:
        """Let others have the room."""
        self._free += pixels
        self._let_in()

    def _let_in(self) -> None:
        # Whoever goes away is cancelled at once, and runs again only after others that were ready before it.
        self._waiting = deque(one for one in self._waiting if not one[1].cancelled())
        while self._waiting and self._waiting[0][0] <= self._free:
            pixels, turn = self._waiting.popleft()
            self._free -= pixels
            turn.set_result(None)
