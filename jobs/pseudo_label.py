"""Self-training's data as a Ray job: what a teacher finds in images that nobody labelled, or not in full.

`ray job submit --working-dir . -- python jobs/pseudo_label.py runs/a/checkpoint --ground-truth train.json --out u.json`
writes unlabelled boxes of a training set, `--images FOLDER` in place of `--ground-truth` a training set of its own.
Paths must lead to storage that every node shares. Submitted again, a job that was killed goes on where it was.
"""

import sys

from tis_ray.submission.job import main

if __name__ == "__main__":
    sys.exit(main())
