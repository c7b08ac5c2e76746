"""Which parameters decay, and one step of SGD by hand."""

import pytest
import torch
from torch import nn

from tis_ray.errors import ConfigError
from tis_ray.training.optim import build_optimizer, restore, set_lr


@pytest.fixture
def model():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1, bias=False))


def test_biases_and_normalisation_do_not_decay(model):
    optimizer = build_optimizer(model, lr=0.1, momentum=0.9, weight_decay=0.01)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    expected = {"0.weight": 0.01, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0, "2.weight": 0.01}
    assert {name: decay[id(parameter)] for name, parameter in model.named_parameters()} == expected


def test_frozen_parameters_are_left_out(model):
    model[0].requires_grad_(False)
    optimizer = build_optimizer(model, lr=0.1, momentum=0.9, weight_decay=0.01)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 3
    with pytest.raises(ConfigError, match="at least one trainable"):
        build_optimizer(model.requires_grad_(False), lr=0.1, momentum=0.9, weight_decay=0.01)


def test_a_step_is_momentum_sgd_with_the_rate_that_was_set():
    line = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        line.weight.fill_(2.0)
    optimizer = build_optimizer(line, lr=100.0, momentum=0.5, weight_decay=0.1)
    velocity, weight = 0.0, 2.0
    for lr in (0.1, 0.2):
        set_lr(optimizer, lr)
        optimizer.zero_grad()
        (3 * line.weight).sum().backward()
        optimizer.step()
        velocity = 0.5 * velocity + 3 + 0.1 * weight
        weight -= lr * velocity
    assert line.weight.item() == pytest.approx(weight)


def test_a_state_from_another_kind_of_device_leaves_the_kernels_as_they_were_chosen(model):
    def trained(*, fused):
        optimizer = build_optimizer(model, lr=0.1, momentum=0.9, weight_decay=0.01, fused=fused)
        model(torch.ones(1, 3, 8, 8)).sum().backward()
        optimizer.step()
        return optimizer

    state = trained(fused=True).state_dict()
    plain = build_optimizer(model, lr=0.1, momentum=0.9, weight_decay=0.01)
    restore(plain, state)
    assert {group["fused"] for group in plain.param_groups} == {None}
    assert {group["fused"] for group in trained(fused=True).param_groups} == {True}
    assert all("momentum_buffer" in plain.state[parameter] for parameter in model.parameters())
