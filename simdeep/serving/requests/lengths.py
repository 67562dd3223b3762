"""Tokens of prompts and answers: a log-normal law cut at both ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simdeep.errors import InputError, Problem
from simdeep.serving.sim.fleet import I32

TAIL = 16
"""An uncut law ends at so many times its mean."""


@dataclass(frozen=True)
class LengthLaw:
    """Whole numbers of tokens from 1 to `most` with mean `mean`.

    The law is log-normal with coefficient of variation `cv` before it is cut; its location is
    chosen so that the mean holds after the cut.
    """

    mean: float
    cv: float
    most: int

    def draw(self, size: int, rng: np.random.Generator) -> I32:
        """Independent draws, [size]."""
        if self.cv == 0:
            return np.full(size, max(1, round(self.mean)), np.int32)
        sigma = math.sqrt(math.log(1 + self.cv**2))
        mu = self._location(sigma)
        values = np.exp(mu + sigma * rng.standard_normal(size))
        while (wrong := np.flatnonzero((values > self.most) | (values < 0.5))).size:
            values[wrong] = np.exp(mu + sigma * rng.standard_normal(wrong.size))
        return np.clip(np.rint(values), 1, self.most).astype(np.int32)

    def _location(self, sigma: float) -> float:
        """The mean of the logarithm that gives `mean` after the cut, by bisection."""
        low, high = math.log(0.5), math.log(self.most) + 10 * sigma**2 + 10 * sigma
        if not self._cut_mean(low, sigma) < self.mean < self._cut_mean(high, sigma):
            text = f"no log-normal law with cv {self.cv:g} up to {self.most} has mean {self.mean:g}"
            raise InputError([Problem("", "traffic", f"{text}; lower mean or cv, or raise max")])
        for _ in range(80):
            middle = (low + high) / 2
            if self._cut_mean(middle, sigma) < self.mean:
                low = middle
            else:
                high = middle
        return (low + high) / 2

    def _cut_mean(self, mu: float, sigma: float) -> float:
        """Mean of a log-normal law between 0.5 and `most`."""
        ends = ((math.log(0.5) - mu) / sigma, (math.log(self.most) - mu) / sigma)
        inside = _phi(ends[1]) - _phi(ends[0])
        if inside < 1e-12:  # all of it lies beyond an end
            return float(self.most) if ends[1] < 0 else 0.5
        part = _phi(ends[1] - sigma) - _phi(ends[0] - sigma)
        return math.exp(mu + sigma**2 / 2) * part / inside


def _phi(x: float) -> float:
    """Standard normal distribution function."""
    return 0.5 * math.erfc(-x / math.sqrt(2))


def mean_context(inputs: I32, outputs: I32) -> float:
    """Mean KV tokens that an output token attends to: input plus half of the output so far."""
    weight = outputs.astype(float)
    return float((weight * (inputs + (outputs + 1) / 2)).sum() / weight.sum())
