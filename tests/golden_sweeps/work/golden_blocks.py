"""Modules that go wrong while they are trained: one fails, one runs out of memory with a batch above four."""

import torch
from torch import nn


class Scale(nn.Module):
    """The identity, with a scale to train."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x):
        if self.training and torch.is_grad_enabled():
            self.check(x)
        return x * self.scale

    def check(self, x):
        pass


class Raises(Scale):
    """Fails in training."""

    def check(self, x):
        raise RuntimeError("this module is broken")


class Hungry(Scale):
    """Has memory for four images."""

    def check(self, x):
        if x.shape[0] > 4:
            raise RuntimeError("DefaultCPUAllocator: out of memory")


class Diverges(Scale):
    """Trains itself to no number."""

    def check(self, x):
        with torch.no_grad():
            self.scale.fill_(float("nan"))
