"""Reinforcement learning, without a teacher, lifts R@1 on the made-up shop by more than its interval."""

from math import log

import pytest
import shop
import torch

from gr2.evaluate.metrics import per_slate
from gr2.evaluate.significance import bootstrap_means, interval
from gr2.lm.generate import Budget
from gr2.lm.rank import rank_by_thinking, rank_in_one_pass
from gr2.lm.train import FitConfig
from gr2.record import StageFolder
from gr2.stages.s10_direct import Config, direct, distance
from gr2.types import Split


def at_once(checkpoint, slates):
    return per_slate(slates, rank_in_one_pass(checkpoint, slates, batch_size=64, label="x"))["R@1"]


def thinking(checkpoint, slates):
    return per_slate(slates, rank_by_thinking(checkpoint, slates, budget=Budget(thought=6), label="x"))["R@1"]


def test_rl_learns_the_taste_both_ways(tmp_path):
    checkpoint = shop.checkpoint()
    test = shop.slates(200, Split.TEST)
    before = [asked(checkpoint, test) for asked in (at_once, thinking)]
    fit = FitConfig(steps=120, batch_size=48, learning_rate=1e-2, warmup_steps=10)
    config = Config(fit=fit, valid_slates=50, thoughts=500)
    direct(checkpoint, shop.all_slates(2000, 50), {}, config, 0, StageFolder(path=tmp_path, resumed=False))
    users = [s.user_id for s in test]
    for asked, untrained in zip((at_once, thinking), before, strict=True):
        gain = bootstrap_means((asked(checkpoint, test) - untrained)[:, None], users, 0)[:, 0]
        low, _ = interval(gain)
        assert low > 0.2, f"{asked.__name__}: {untrained.mean():.2f} + {gain.mean():.2f}"


def test_distance_to_the_teacher_by_hand():
    teacher = torch.tensor([[0.5, 0.5, 0.0]])
    student = torch.tensor([[log(0.25), log(0.5), log(0.25)]])
    assert distance(student, teacher).item() == pytest.approx(0.5 * log(0.5 / 0.25) + 0.5 * log(0.5 / 0.5))
