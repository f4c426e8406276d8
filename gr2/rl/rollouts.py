"""Every rollout of the RL: scored, kept with its parts and its advantage, and counted step by step."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gr2.errors import UserError
from gr2.prompt.parse import parse
from gr2.prompt.render import END_THINK
from gr2.record import read_jsonl
from gr2.reward.forms import Form
from gr2.reward.truth import Truth
from gr2.rl.credit import step_advantages, step_of_each
from gr2.rl.shown import as_it_came, shown_as
from gr2.types import AnswerStatus, Slate

Places = tuple[int, ...]
Check = Callable[[Sequence[Slate], Sequence[str]], Sequence[Truth]]


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One line of rollouts.jsonl."""

    step: int
    """Optimizer steps made before it."""
    slate_id: str
    places: Places
    """The incoming place of the candidate shown at each place."""
    text: str
    status: AnswerStatus
    order: Places
    """What could be read of the answer, in places as shown."""
    reward: float
    """`paid` by the reward's form, plus `overlong`."""
    rank: float
    format: float
    overlong: float
    advantage: float
    """What the objective multiplies with; 0 in a group whose rewards are all alike."""
    truth: float | None = None
    """Of its thought (`reward.truth`); None where that is not asked for."""


class Scorer:
    """A reward function for TRL that reads completions by token numbers, since decoded text may lack tokens."""

    def __init__(
        self,
        decode: Callable[[list[int]], str],
        slates: Mapping[str, Slate],
        places: Callable[[Slate], Places],
        form: Form,
        price: Callable[[int], float],
        file: Path,
        check: Check | None = None,
    ) -> None:
        """`price` is what a completion of so many tokens costs, 0 or below; `check` tells the truth of thoughts."""
        self.decode, self.slates, self.places, self.form, self.price = decode, slates, places, form, price
        self.file, self.check = file, check
        self.scored: list[dict[str, Any]] = []
        """Rows that lack only their advantage."""
        self.checked: list[tuple[Sequence[float], list[int]]] = []
        """Of the same rollouts: the truth of each step, and the step that each token is a word of."""
        self.step_rows: list[Rollout] = []

    def score(
        self, completion_ids: list[list[int]], slate_id: list[str], trainer_state: Any = None, **_: Any
    ) -> list[float | None]:
        """One reward a completion."""
        step = trainer_state.global_step if trainer_state else 0
        self.scored = [self.row(t, self.slates[n], step) for t, n in zip(completion_ids, slate_id, strict=True)]
        if self.check:
            shown = [shown_as(slate, self.places(slate)) for slate in map(self.slates.__getitem__, slate_id)]
            truths = self.check(shown, [row["text"].partition(END_THINK)[0] for row in self.scored])
            words = [step_of_each([self.decode([token]) for token in tokens]) for tokens in completion_ids]
            self.checked = list(zip([truth.steps for truth in truths], words, strict=True))
            for row, truth in zip(self.scored, truths, strict=True):
                row["truth"] = round(truth.total, 4)
        return [row["reward"] for row in self.scored]

    def credit(self, width: int, group: int) -> Tensor:
        """(B, C) what each of `width` tokens of the rollouts that were scored last earns by the truth of its step."""
        truths, words = zip(*self.checked, strict=True)
        of_BC = step_advantages(truths, words, group)
        return torch.nn.functional.pad(of_BC, (0, width - of_BC.shape[1]))

    def row(self, tokens: list[int], slate: Slate, step: int) -> dict[str, Any]:
        """The rewards are about the order that came in, whatever order was shown."""
        text, places, overlong = self.decode(tokens), self.places(slate), self.price(len(tokens))
        answer = parse(text, len(places))
        reward = self.form(as_it_came(answer, places), slate)
        return {
            "step": step,
            "slate_id": slate.slate_id,
            "places": places,
            "text": text,
            "status": answer.status,
            "order": answer.order,
            "reward": reward.total + overlong,
            "rank": reward.rank,
            "format": reward.format,
            "overlong": overlong,
        }

    def keep(self, advantages_B: Tensor) -> None:
        """Write the rows that were scored last; called once their advantages are known."""
        rows = [Rollout(**row, advantage=a) for row, a in zip(self.scored, advantages_B.tolist(), strict=True)]
        with self.file.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
        self.step_rows += rows

    def take_probes(self) -> dict[str, Any]:
        """The probes of the rollouts since the last call."""
        rows, self.step_rows = self.step_rows, []
        return probes(rows)


def probes(rows: Sequence[Rollout]) -> dict[str, Any]:
    """Reward parts and signs of a hack: means over rollouts; echo and `first_from` over the valid ones, as shown.

    `first_from[i]` is the share whose first candidate was shown at place i; all of it at 0 is an echo in the making.
    """
    valid = [row for row in rows if row.status is AnswerStatus.VALID]
    longest = max((len(row.places) for row in rows), default=0)
    firsts = [row.order[0] for row in valid]
    parts = {name: mean([getattr(row, name) for row in rows]) for name in ("rank", "format", "overlong")}
    checked = [row.truth for row in rows if row.truth is not None]
    return {
        **parts,
        **({"truth": mean(checked)} if checked else {}),
        "valid_share": mean([row.status is AnswerStatus.VALID for row in rows]),
        "echo_share": mean([row.order == tuple(range(len(row.order))) for row in valid]),
        "first_from": [mean([first == place for first in firsts]) for place in range(longest)],
    }


def mean(values: Sequence[float]) -> float:
    """0 of nothing."""
    return round(sum(values) / len(values), 4) if values else 0.0


def read_rollouts(file: Path) -> list[Rollout]:
    """Raises UserError when the file is absent or torn, or was written by a gr2 that kept less."""
    rows = read_jsonl(file)
    try:
        return [from_json(row) for row in rows]
    except (TypeError, ValueError, KeyError):
        raise UserError(f"{file}: written by another version of gr2; make it again: gr2 run ... --redo rl") from None


def from_json(row: dict[str, Any]) -> Rollout:
    status = AnswerStatus(row["status"])
    return Rollout(**{**row, "status": status, "places": tuple(row["places"]), "order": tuple(row["order"])})
