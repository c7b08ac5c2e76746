"""Predictors that do nothing but what a test of the view server looks at."""

import threading
import time

import numpy as np

from tis_ray.fusion.two_pass import Plan
from tis_ray.inference.feature_memory import FeatureMemory
from tis_ray.instances import Instances
from tis_ray.serving.view_server import ViewServer
from tis_ray.views import View

VIEWS = (View("one", 64), View("one", 64, True))
OWN = Plan(boxes=True, own_masks=True, masks=False)


def look(server: ViewServer, frame: np.ndarray, *, deadline_s: float, plan: Plan = OWN):
    """The server's answer to the first pass."""
    return server.segment(frame, plan=plan, key="a picture", deadline_s=deadline_s)


class Healthy:
    """A predictor whose device computes, and which never takes two pictures at once."""

    memory = FeatureMemory(0)

    def check_device(self):
        pass

    def pictures_at_once(self, image_hw, views):
        return 1

    def predict_together(self, asked, views, *, masks):
        assert len(asked) <= self.pictures_at_once(asked[0].image.shape[:2], views)
        return [self.predict(one.image, views, masks=masks) if one.wanted() else None for one in asked]


class Slow(Healthy):
    """Takes 50 ms and notes how many calls run at the same time."""

    def __init__(self) -> None:
        self.running = self.most = self.calls = 0
        self.lock = threading.Lock()

    def predict(self, image, views, **asked):
        with self.lock:
            self.running += 1
            self.calls += 1
            self.most = max(self.most, self.running)
        time.sleep(0.05)
        with self.lock:
            self.running -= 1
        return [Instances.empty() for _ in views]
