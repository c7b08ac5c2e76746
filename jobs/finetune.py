"""Train recipes one after the other as a Ray job:
`ray job submit --working-dir . -- python jobs/finetune.py base.yaml tuned.yaml`.

Each begins from the checkpoint that the one before it ends with, whatever its own `start.checkpoint` says; its
`start.classes` are kept. With `--resume` the chain goes on where it was. Recipes' paths must lead to storage that every
node shares.
"""

import sys

from tis_ray.cluster.job import main

if __name__ == "__main__":
    sys.exit(main(in_a_chain=True))
