"""The mean of weights by hand, and that it costs no wait."""

import torch

from tests.host_waits import host_waits
from tests.tiny import CATEGORIES, tiny_recipe
from tis_ray.models.assembly import build_detector
from tis_ray.models.running_mean import RunningMean


def test_weights_and_statistics_follow_at_the_rate_that_was_asked_for():
    torch.manual_seed(0)
    learning = build_detector(tiny_recipe().detector, CATEGORIES).train()
    mean = RunningMean(learning, decay=0.75)
    expected = {name: value.double().clone() for name, value in learning.state_dict().items()}
    counted = next(name for name in expected if name.endswith("num_batches_tracked"))
    for number in range(1, 4):
        with torch.no_grad():
            for parameter in learning.parameters():
                parameter.add_(torch.randn_like(parameter))
            for name, buffer in learning.named_buffers():
                buffer.fill_(number) if name == counted else buffer.add_(1)
        with host_waits() as waits:
            mean.update()
        assert not waits
        for name, value in learning.state_dict().items():
            expected[name] = 0.75 * expected[name] + 0.25 * value.double()
    found = mean.detector.state_dict()
    assert found[counted] == 3
    for name, value in found.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], atol=1e-5, rtol=1e-5, msg=name)
    assert not mean.detector.training
    assert not any(parameter.requires_grad for parameter in mean.detector.parameters())
