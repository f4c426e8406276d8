"""Reinforcement learning, without a teacher, lifts R@1 on the made-up shop by more than its interval."""

from math import log

import pytest
import shop
import torch

from gr2.evaluate.metrics import per_slate
from gr2.evaluate.significance import bootstrap_means, interval
from gr2.lm.rank import rank_in_one_pass
from gr2.lm.train import FitConfig
from gr2.record import StageFolder
from gr2.stages.s10_direct import Config, direct, distance
from gr2.types import Split


def hits(checkpoint, slates):
    return per_slate(slates, rank_in_one_pass(checkpoint, slates, batch_size=64, label="x"))["R@1"]


def test_rl_learns_the_taste(tmp_path):
    checkpoint = shop.checkpoint()
    test = shop.slates(200, Split.TEST)
    before = hits(checkpoint, test)
    config = Config(fit=FitConfig(steps=120, batch_size=32, learning_rate=1e-2, warmup_steps=10), valid_slates=50)
    direct(checkpoint, shop.all_slates(2000, 50), {}, config, 0, StageFolder(path=tmp_path, resumed=False))
    after = hits(checkpoint, test)
    users = [s.user_id for s in test]
    gain = bootstrap_means((after - before)[:, None], users, 0)[:, 0]
    low, _ = interval(gain)
    assert low > 0.2, f"R@1 {before.mean():.2f} -> {after.mean():.2f}"


def test_distance_to_the_teacher_by_hand():
    teacher = torch.tensor([[0.5, 0.5, 0.0]])
    student = torch.tensor([[log(0.25), log(0.5), log(0.25)]])
    assert distance(student, teacher).item() == pytest.approx(0.5 * log(0.5 / 0.25) + 0.5 * log(0.5 / 0.5))
