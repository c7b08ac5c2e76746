"""Memory of decoded pictures goes back to the system."""

import subprocess
import sys

import pytest

DECODING = """
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np

from tests.serving.load.answers import street
from tests.serving.load.footprint import of_process
from tis_ray.formats.images import decode_image
from tis_ray.serving.heap import give_back_what_is_freed

assert give_back_what_is_freed()
picture, together = street(0, (1600, 2400)), Barrier(6)

def decode(_):
    together.wait()
    decode_image(picture, max_pixels=10**8)

decode_image(picture, max_pixels=10**8)
before = of_process(os.getpid()).own_mb
with ThreadPoolExecutor(6) as pool:
    for _ in range(3):
        list(pool.map(decode, range(6)))
    print(of_process(os.getpid()).own_mb - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's switch")
def test_threads_that_decoded_pictures_keep_nothing_of_them():
    run = subprocess.run([sys.executable, "-c", DECODING], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 25  # six pictures are 70 MB, and as much again while they are decoded
