"""Parts of the region proposal network (Ren et al. 2015) that differ from torchvision's."""

from torch import Tensor
from torchvision.models.detection.rpn import RPNHead


class Float32Head(RPNHead):
    """torchvision's head with float32 answers under autocast.

    torchvision decodes boxes in the type of the deltas: bfloat16 keeps 8 bits, so that a proposal at x = 3000 would
    snap to a grid of 16 px, larger than many of the objects.
    """

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness logits (B, A, h, w) and deltas (B, 4A, h, w) of each level."""
        logits, deltas = super().forward(x)
        return [level.float() for level in logits], [level.float() for level in deltas]
