"""A batch run on the cluster that RAY_ADDRESS names, through a service started for it: python -m ... ENSEMBLE RUN

Tells what is done on stdout, as JSON lines.
"""

import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path

import ray

from tis_ray.config import load_ensemble
from tis_ray.runs.folder import open_run
from tis_ray.serving.local import free_port, serve_locally
from tis_ray.submission.streaming import served, stream_shards


def main(ensemble_path: Path, run_path: Path) -> None:
    ensemble, run = load_ensemble(ensemble_path), open_run(run_path)
    ray.init(log_to_driver=False, logging_level=logging.ERROR)
    with serve_locally(ensemble, port=free_port()):
        options = {"deadline_s": ensemble.limits.max_deadline_s, "keep_views": True}
        numbers = [number for number in range(run.num_shards) if number not in run.done()]
        shards = stream_shards(run, numbers, open_segmenter=served(ensemble.views, **options), in_flight=4)
        for done in shards:
            print(json.dumps(asdict(done)), flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
