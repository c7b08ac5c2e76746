"""Train recipes as a Ray job: `ray job submit --working-dir . -- python jobs/train.py recipe.yaml [...]`.

Runs of one job train side by side, but for those that begin from another one's checkpoint, which wait for it. Recipes'
paths must lead to storage that every node shares. `tis-ray train --submit` does the same and fetches the checkpoints.
"""

import sys

from tis_ray.cluster.job import main

if __name__ == "__main__":
    sys.exit(main())
