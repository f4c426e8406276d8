"""Reinforcement learning, without a teacher, lifts R@1 on the made-up shop by more than its interval."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
import shop
import torch
from torch.nn.functional import cross_entropy

from gr2.artifacts import Slates
from gr2.evaluate.metrics import per_slate
from gr2.evaluate.significance import bootstrap_means, interval
from gr2.lm.generate import Budget
from gr2.lm.rank import rank_by_thinking, rank_in_one_pass, scores_at_once
from gr2.lm.train import FitConfig
from gr2.record import StageFolder
from gr2.rl.shown import shown_as
from gr2.stages.s10_direct import Config, direct, distance, weigh
from gr2.types import Split


def at_once(checkpoint, slates):
    return per_slate(slates, rank_in_one_pass(checkpoint, slates, batch_size=64, label="x"))["R@1"]


def thinking(checkpoint, slates):
    return per_slate(slates, rank_by_thinking(checkpoint, slates, budget=Budget(thought=6), label="x"))["R@1"]


def second(slates):
    """The slates with the target moved to the second place."""
    moved = []
    for s in slates:
        places = [c for c in range(shop.K) if c != s.target]
        moved.append(shown_as(s, [places[0], s.target, *places[1:]]))
    return moved


@pytest.mark.parametrize("asked", [at_once, thinking])
def test_rl_learns_the_taste_by_ids_and_by_labels_where_the_target_stands(asked, tmp_path):
    """At once ids are scored, which tell a department; behind reasons labels, which a model from scratch cannot bind to
    ids in so few steps."""
    checkpoint, train, test = shop.checkpoint(), shop.all_slates(2000, 50), shop.slates(200, Split.TEST)
    if asked is thinking:
        train, test = Slates(slates=tuple(second(train.slates))), second(test)
    before = asked(checkpoint, test)
    fit = FitConfig(steps=120, batch_size=48, learning_rate=1e-2, warmup_steps=10)
    config = Config(fit=fit, valid_slates=50, thoughts=500, beta=0)
    direct(checkpoint, train, config, 0, StageFolder(path=tmp_path, resumed=False))
    gain = bootstrap_means((asked(checkpoint, test) - before)[:, None], [s.user_id for s in test], 0)[:, 0]
    low, _ = interval(gain)
    assert low > 0.2, f"{before.mean():.2f} + {gain.mean():.2f}"


def test_distance_to_the_teacher_by_hand():
    teacher = torch.tensor([[0.5, 0.5, 0.0]])
    student = torch.tensor([[log(0.25), log(0.5), log(0.25)]])
    assert distance(student, teacher).item() == pytest.approx(0.5 * log(0.5 / 0.25) + 0.5 * log(0.5 / 0.5))


def test_advice_counts_as_much_as_it_is_worth():
    checkpoint, slates = replace(shop.checkpoint(), advice=1.0), shop.slates(200, Split.VALID)
    rng = np.random.default_rng(0)
    # Right in three slates of four, at random in the rest; and without any worth.
    hints = [s.target if rng.random() < 0.75 else int(rng.integers(shop.K)) for s in slates]
    good = [replace(s, advice=tuple(float(c == h) for c in range(shop.K))) for s, h in zip(slates, hints, strict=True)]
    bad = [replace(s, advice=tuple(rng.normal(size=shop.K).tolist())) for s in slates]
    helped, misled = weigh(checkpoint, good), weigh(checkpoint, bad)
    assert helped.advice / helped.words > 5 * misled.advice / misled.words >= 0
    served = per_slate(good, rank_in_one_pass(helped, good, batch_size=64, label=None))
    assert served["R@1"].mean() > 0.7


def test_served_scores_are_log_odds():
    """Advice that is right in half of the slates and counts far too much, beside words that know nothing: who is taken
    is likeliest under the scores as they are, and not under any multiple of them."""
    checkpoint, slates = shop.checkpoint(), shop.slates(200, Split.VALID)
    rng = np.random.default_rng(0)
    hints = [s.target if rng.random() < 0.5 else int(rng.integers(shop.K)) for s in slates]
    told = [replace(s, advice=tuple(7.0 * (c == h) for c in range(shop.K))) for s, h in zip(slates, hints, strict=True)]
    with torch.inference_mode():
        scores = scores_at_once(weigh(checkpoint, told), told)
    targets = torch.tensor([s.target for s in told])
    nats = [cross_entropy(times * scores, targets).item() for times in (0.9, 1.0, 1.1)]
    assert nats[1] < min(nats[0], nats[2])


def test_silent_advice_weighs_nothing():
    slates = [replace(s, advice=(0.0,) * shop.K) for s in shop.slates(20, Split.VALID)]
    weighed = weigh(shop.checkpoint(), slates)
    assert weighed.advice == weighed.items == 0
