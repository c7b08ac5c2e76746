"""A Ray cluster on this machine: a head without CPUs, and nodes that come and go as stdin says.

Lines `add NAME` and `remove NAME`, answered by lines on stdout; the end of stdin ends the cluster.
"""

import sys
import time
from typing import Any

from ray._private import services
from ray.cluster_utils import Cluster

START_S = 600.0
# A node that is gone is missed after seconds, not half a minute; one on a busy machine is given some.
PATIENCE = {"health_check_initial_delay_ms": 5000, "health_check_period_ms": 1000, "health_check_failure_threshold": 10}


def main() -> None:
    services.get_node = found_at_last
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": PATIENCE}
    )
    nodes = {}
    try:
        print(f"at {cluster.address}", flush=True)
        for line in sys.stdin:
            what, name = line.split()
            if what == "add":
                nodes[name] = cluster.add_node(num_cpus=1)
            else:
                cluster.remove_node(nodes.pop(name), allow_graceful=False)
            print(f"{what} {name}", flush=True)
    finally:
        cluster.shutdown()


get_node = services.get_node


def found_at_last(*arguments: Any) -> Any:
    """A node that has been started. Ray itself gives it 30 s, which a machine that does much else may not have."""
    end = time.monotonic() + START_S
    while True:
        try:
            return get_node(*arguments)
        except RuntimeError:
            if time.monotonic() > end:
                raise


if __name__ == "__main__":
    main()
