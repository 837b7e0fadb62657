"""Implicit regularization of gradient descent: the fitted orders, and one weight pair in closed form."""

import dataclasses

import numpy as np
import pytest

import theory
from theory._setting import Setting, default_data
from theory.implicit_regularization import MODIFIED, PLAIN

SMALL = default_data(2)[1]


@pytest.fixture(scope="module")
def details():
    return theory.get("T12").check(SMALL).details[SMALL.name]


def test_orders_are_two_and_one_by_both_routes(details):
    for name, order in ((MODIFIED, 2), (PLAIN, 1)):
        for route in ("raw", "engine"):
            assert details[name][route]["slope"] == pytest.approx(order, abs=1e-4)
        np.testing.assert_allclose(details[name]["raw"]["distances"], details[name]["engine"]["distances"], rtol=1e-5)


def test_the_modified_flow_is_closer_at_every_step_size(details):
    assert np.all(10 * np.array(details[MODIFIED]["raw"]["distances"]) < details[PLAIN]["raw"]["distances"])


def test_leading_constant_of_one_quadratic():
    """Reference: L = a w^2/2 solved in closed form, (1 - eta a)^k against exp(-a t) and exp(-(a + eta a^2/2) t)."""
    a, t = 1.3, 0.8
    ends = {count: ((1 - t / count * a) ** count, np.exp(-a * t), np.exp(-(a + t / count * a**2 / 2) * t))
            for count in (64, 128)}
    plain, modified = ([abs(end[0] - end[place]) for end in ends.values()] for place in (1, 2))
    assert np.log2(plain[0] / plain[1]) == pytest.approx(1, abs=0.02)
    assert np.log2(modified[0] / modified[1]) == pytest.approx(2, abs=0.02)


def test_nearly_the_right_share_fails():
    """A claim of L + share eta R with the share off by one in a thousand is told from the right one."""
    setting = Setting(SMALL)
    part, _ = theory.get("T12").parts(setting)
    assert part.measure(setting).passed
    assert not dataclasses.replace(part, share=0.25 * 1.001).measure(setting).passed
