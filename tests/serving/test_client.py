"""What a client makes of an answer, against a server that always gives the same one."""

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from tis_ray.serving.client import Client
from tis_ray.serving.segment import segment_files

RLE = {"size": [4, 6], "counts": "PPYo0"}
BASE = {"category_id": 3, "category": "car", "score": 0.5, "bbox": [1, 2, 3, 4], "area": 12.0}
ROWS = [
    BASE | {"segmentation": RLE, "mask_score": 0.25},
    BASE | {"segmentation": RLE},
    BASE | {"segmentation": None},
]
ANSWER = {
    "image": {"width": 6, "height": 4, "sha256": "00"},
    "instances": ROWS,
    "views": [],
    "degraded": False,
    "timings": {"total_s": 0.5},
    "model_version": "0123456789ab",
}


class _Service(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(orjson.dumps(ANSWER))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_masks_have_a_score_of_their_own_where_the_service_gives_one(url: str) -> None:
    with Client(url) as client:
        result = client.segment(b"picture")
    assert [one.mask_score for one in result.instances] == [0.25, None, None]
    coco = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}
    assert result.to_coco(7) == [coco | {"segmentation": RLE, "mask_score": 0.25}, coco | {"segmentation": RLE}, coco]


def test_answers_are_kept_as_the_service_wrote_them(url: str, tmp_path: Path) -> None:
    out, picture = tmp_path / "answers.json", tmp_path / "a.png"
    picture.write_bytes(b"picture")
    console = Console(file=io.StringIO())
    segment_files([picture], url=url, token=None, out=out, overlay=None, score_threshold=0.0, console=console)
    (answer,) = orjson.loads(out.read_bytes())
    assert answer["instances"] == ROWS
