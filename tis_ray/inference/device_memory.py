"""Memory of a GPU that several replicas share. Ray counts their shares and holds none of them to it; PyTorch does."""

import torch

CONTEXT_BYTES = 768 * 2**20  # what a process takes of a GPU beside PyTorch's tensors: its context, kernels, libraries
_LEAST = 0.01


def fraction_of(share: float, total_bytes: int) -> float:
    """The part of a GPU's memory that tensors of a replica with this share, in 0..1, may take: its context goes off."""
    return max(_LEAST, share - CONTEXT_BYTES / total_bytes)


def keep_to_share(device: torch.device | str, share: float) -> None:
    """From now on a tensor of this process that does not fit into its share of the GPU is its own failure, and not
    that of a neighbour. Nothing happens for a whole GPU, nor on a CPU."""
    device = torch.device(device)
    if device.type != "cuda" or not 0 < share < 1:
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(fraction_of(share, total), device)


def peak_bytes(device: torch.device | str) -> int | None:
    """The most memory that tensors of this process, and what is kept ready for them, have taken of a GPU so far."""
    device = torch.device(device)
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None
