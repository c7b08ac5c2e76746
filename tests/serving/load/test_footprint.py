"""Memory by the kernel's account."""

import os
import subprocess
import sys

import pytest

from tests.serving.load.footprint import Memory, kind, of_process, total

HOLD = "held = bytearray(b'x') * (60 << 20); print('held', flush=True); input()"


def test_what_a_process_holds_is_counted():
    before = of_process(os.getpid())
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().strip() == "held"
        found = of_process(process.pid)
        process.communicate("\n")
    assert 60 < found.pss_mb < 60 + before.own_mb
    assert 60 < found.own_mb < 60 + before.own_mb
    with pytest.raises(OSError, match=r"No such file|No such process"):
        of_process(process.pid)


def test_several_are_added_up():
    assert total({}) == Memory(0, 0)
    assert total({"a": Memory(1, 2), "b": Memory(3, 4)}) == Memory(4, 6)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("ray::ServeReplica:tis-ray:Gateway", "Gateway"),
        ("ray::ServeReplica:tis-ray:one@96.get_num_ongoing_requests", "one@96"),
        ("ray::ProxyActor.receive_asgi_messages", "proxy"),
        ("ray::ServeController", "controller"),
        ("ray::IDLE", None),
        ("/venv/ray/core/src/ray/raylet/raylet --raylet_socket_name=x", "raylet"),
        ("/venv/ray/core/src/ray/gcs/gcs_server --log_dir=x", "GCS"),
        ("/venv/bin/python -u /venv/ray/_private/log_monitor.py", "Ray's agents"),
        ("python -c input()", None),
    ],
)
def test_processes_are_known_by_their_titles(title, expected):
    assert kind(title) == expected
