"""When the program waits for its device: on a GPU a question about values is answered only after all that was queued.

A branch on such an answer is worth it where nobody waits, and nowhere else.
"""

import torch


def waiting_is_free(device: torch.device) -> bool:
    """Whether values on `device` are there at once, as they are on a CPU."""
    return device.type == "cpu"
