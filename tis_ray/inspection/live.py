"""How much memory a computation holds at once, counted from what its operations return."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Formula = Callable[..., int]


class LiveBytes(TorchDispatchMode):
    """While it is entered, the bytes of all storages that were made inside and are still alive: `now` and `peak`.

    Whatever existed before, as weights do, does not count. An allocator's rounding is not seen, nor what an operation
    takes for itself: `workspaces` has a formula of these bytes for some, called with the operation's arguments.
    `where` is asked at each new peak, and `peak_at` keeps its last answer.
    """

    def __init__(
        self, *, workspaces: Mapping[Any, Formula] | None = None, where: Callable[[], str] = lambda: ""
    ) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self.peak_at = ""
        self._workspaces = dict(workspaces or {})
        self._where = where
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count what it made."""
        kwargs = kwargs or {}
        given = {id(one.untyped_storage()) for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
        result = func(*args, **kwargs)
        for one in tree_leaves(result):
            if isinstance(one, Tensor):
                self._count(one.untyped_storage(), given)
        workspace = self._workspaces.get(getattr(func, "overloadpacket", None))
        extra = 0 if workspace is None else workspace(*args, **kwargs)
        if self.now + extra > self.peak:
            self.peak, self.peak_at = self.now + extra, self._where()
        return result

    def _count(self, storage: Any, given: set[int]) -> None:
        key, size = id(storage), storage.nbytes()  # PyTorch keeps one Python object for each storage while it lives
        if key in given or key in self._alive:
            return
        self._alive.add(key)
        self.now += size
        weakref.finalize(storage, self._forget, key, size).atexit = False

    def _forget(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size
