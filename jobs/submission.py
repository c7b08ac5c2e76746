"""A batch of images as a Ray job: `tis-ray predict` beside the service, with its options.

`ray job submit --working-dir . -- python jobs/submission.py ensemble.yaml --images FRAMES --out /mnt/out/results.json`

Where the cluster serves the ensemble already, that service answers, with `--replicas` by more replicas meanwhile; else
one is started on the cluster for the time of the job. Paths must be absolute and lead to storage that every node
shares. Submitted again with `--resume`, a job that was killed or stopped goes on where it was.
"""

import os
import sys

from tis_ray.cli import main
from tis_ray.errors import TisRayError
from tis_ray.submission.job import cluster

if __name__ == "__main__":
    try:
        with cluster() as address:
            os.environ.pop("RAY_ADDRESS", None)  # else it would stand for a service
            sys.argv[1:] = ["predict", *sys.argv[1:], *(["--address", address] if address else ["--service"])]
            main()
    except TisRayError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
