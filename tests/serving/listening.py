"""At which ports processes listen, by what Linux tells of them."""

from dataclasses import dataclass
from ipaddress import ip_address

import ray


@dataclass(frozen=True)
class Listener:
    """A process that listens at an address; all interfaces are `0.0.0.0` or `::`."""

    name: str
    host: str
    port: int

    @property
    def on_loopback(self) -> bool:
        address = ip_address(self.host)
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def listeners(pid: int) -> list[Listener]:
    """Those of a process and all that it has started."""
    assert ray.__version__  # psutil comes with it
    import psutil

    root = psutil.Process(pid)
    found = []
    for process in [root, *root.children(recursive=True)]:
        try:
            sockets = process.net_connections(kind="inet")
        except psutil.Error:  # it has just ended
            continue
        found += [
            Listener(process.name(), one.laddr.ip, one.laddr.port)
            for one in sockets
            if one.status == psutil.CONN_LISTEN
        ]
    return found
