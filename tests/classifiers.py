"""Every way to tell classes apart, for tests of what they have in common."""

import inspect

import pytest

from tis_ray import menu

MENU = "tis_ray.models.classification"


def every_classifier() -> list[object]:
    """Names and options as parameters of a test; with a cosine layer too where one is offered."""
    found = []
    for name in menu.choices(MENU):
        found.append(pytest.param((name, {}), id=name))
        if "cosine" in inspect.signature(menu.pick(MENU, "build", name, key="test")).parameters:
            found.append(pytest.param((name, {"cosine": 20.0}), id=f"{name} cosine"))
    return found
