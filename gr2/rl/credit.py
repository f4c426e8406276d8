"""Which words a true or false step is credited to. (ours)

A rollout has one reward for its ranking, which all its tokens share. What a step says is true or false by itself, so
only its own tokens earn that: advantages are (B, C), one a token.

Shapes: B rollouts, G of them a group, C tokens of the longest, S steps of the longest thought.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gr2.prompt.render import END_THINK
from gr2.reward.truth import BREAK
from gr2.rl.advantage import group_advantages
from gr2.teach.rationale import ARROW


def step_of_each(pieces: Sequence[str]) -> list[int]:
    """The step, from 0, that each token (as text) is a word of; -1 behind the arrow, and outside the thought."""
    steps, step = [], 0
    for piece in pieces:
        if END_THINK in piece:
            break
        steps.append(step)
        if ARROW in piece:
            break
        step += BREAK in piece
    return steps + [-1] * (len(pieces) - len(steps))


def step_advantages(truths: Sequence[Sequence[float]], steps: Sequence[Sequence[int]], group: int) -> Tensor:
    """(B, C): how much truer the token's step is than the steps at its place in the group's other rollouts, over their
    standard deviation. `truths` are of the steps of each rollout, `steps` of its tokens (`step_of_each`); a step that
    is missing is not true."""
    n_steps, n_tokens = (max(map(len, rows), default=0) for rows in (truths, steps))
    # One column more than there are steps: that of step -1, which earns nothing.
    values_BS = torch.tensor([[*row, *[0.0] * (n_steps + 1 - len(row))] for row in truths])
    centred = group_advantages(values_BS.view(-1, group, n_steps + 1).transpose(1, 2)).transpose(1, 2)
    of_BC = torch.tensor([[*row, *[-1] * (n_tokens - len(row))] for row in steps], dtype=torch.long) % (n_steps + 1)
    return centred.reshape(len(truths), -1).gather(1, of_BC)
