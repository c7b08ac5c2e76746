"""Menu of ways to tell classes apart. Each module exports `build(in_channels, categories, *, ...) -> Classifier`; its
name is the option's name.

A `Classifier` is the last layer of a box head with its loss and its scores. K classes, R regions; `categories` tells
how often each class was seen in training, where that is known. `layer` is the module whose first dimension has a row
for each logit: rows shared by all classes first, then one for each class in the order of `categories`.
`class_rows.with_class_rows` is told which rows are shared, so that classes of another checkpoint can be taken by name;
`_layer.class_layer` makes a layer whose logits are float32 under autocast too.
"""

from typing import Protocol

from torch import Tensor, nn


class Classifier(Protocol):
    """What turns a head's features into scores, and learns to."""

    layer: nn.Module

    def __call__(self, features: Tensor) -> Tensor:
        """Features (R, C) to logits float32 (R, L)."""

    def loss(self, logits: Tensor, labels: Tensor, unverified: Tensor | None = None) -> Tensor:
        """Scalar; `labels` int64 (R,) from 1, 0 for background, -1 for a region that does not count.

        `unverified` bool (R, K): classes of which objects may be in the region's image unannotated; None is none. Only
        a loss that asks each class on its own can make use of it. 0 where no region counts. No wait for the device.
        """

    def scores(self, logits: Tensor) -> Tensor:
        """Scores (R, K) in 0..1 of the classes, without background."""
