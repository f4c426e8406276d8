"""Fixed policies against every form of the reward, before any training: which hack does a form let through? (method §4)

    python -m gr2.reward.policies runs/nano

prints the table of docs/rewards.md, measured on the run's training slates. A policy writes words, as a model does, and
the parser reads them. A hack is let through where a policy that puts nothing better before the person's eyes (N@3 not
above that of keeping the order shown) is paid more than keeping it, by more than two standard errors, slate by slate.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gr2.artifacts import Slates
from gr2.errors import in_one_line
from gr2.evaluate.metrics import per_slate
from gr2.evaluate.significance import is_above
from gr2.prompt.parse import parse
from gr2.prompt.render import END, END_THINK, LABELS
from gr2.reward.conditional import ALPHA
from gr2.reward.forms import FORM_NAMES, can_teach, reward_form
from gr2.rl.shown import as_it_came, random_places, shown_as
from gr2.types import Answer, Ranking, Slate, Split

HEAD = 3
"""Places that a person looks at first."""
Order = Callable[[Slate, np.random.Generator], Sequence[int]]
Words = Callable[[Slate], str]


def keep(slate: Slate, rng: np.random.Generator) -> list[int]:
    return list(range(len(slate.candidates)))


def at_random(slate: Slate, rng: np.random.Generator) -> list[int]:
    return [int(c) for c in rng.permutation(len(slate.candidates))]


def reverse(slate: Slate, rng: np.random.Generator) -> list[int]:
    return keep(slate, rng)[::-1]


def keep_first(slate: Slate, rng: np.random.Generator) -> list[int]:
    return [0, *(c for c in at_random(slate, rng) if c)]


def second_first(slate: Slate, rng: np.random.Generator) -> list[int]:
    return [1, 0, *keep(slate, rng)[2:]]


def last_first(slate: Slate, rng: np.random.Generator) -> list[int]:
    *others, last = keep(slate, rng)
    return [last, *others]


def tail_swap(slate: Slate, rng: np.random.Generator) -> list[int]:
    *head, before, last = keep(slate, rng)
    return [*head, last, before]


def tail_only(slate: Slate, rng: np.random.Generator) -> list[int]:
    """Sees the target, and moves it only below what people look at."""
    others = [c for c in keep(slate, rng) if c != slate.target]
    place = min(slate.target, HEAD)
    return [*others[:place], slate.target, *others[place:]]


def one_up(slate: Slate, rng: np.random.Generator) -> list[int]:
    """Sees the target, and moves it by one place."""
    others = [c for c in keep(slate, rng) if c != slate.target]
    place = max(slate.target - 1, 0)
    return [*others[:place], slate.target, *others[place:]]


def oracle(slate: Slate, rng: np.random.Generator) -> list[int]:
    return sorted(keep(slate, rng), key=lambda c: -slate.gains[c])


KEEP = "keep the order"
ORDERS: dict[str, Order] = {
    KEEP: keep,
    "swap the last two": tail_swap,
    "first stays, rest random": keep_first,
    "second first": second_first,
    "last first": last_first,
    "random": at_random,
    "reverse": reverse,
    "oracle of the tail": tail_only,
    "oracle by one place": one_up,
    "oracle": oracle,
}
WRONG: dict[str, Words] = {
    "one label missing": lambda s: END_THINK + written(range(len(s.candidates) - 1)) + END,
    "first label twice": lambda s: END_THINK + written([0, *range(len(s.candidates) - 1)]) + END,
    "no end of thought": lambda s: written(range(len(s.candidates))) + END,
    "never ends": lambda s: END_THINK + written(range(len(s.candidates))),
    "a label too many": lambda s: END_THINK + written([*range(len(s.candidates)), 0]) + END,
    "nothing": lambda s: "",
}
"""The ways to be invalid that the parser tells apart."""


def written(order: Sequence[int]) -> str:
    """The labels of an order."""
    return "".join(LABELS[c] for c in order)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What one policy is paid."""

    ndcg: float | None
    """Mean N@3; None where nothing was ranked."""
    paid: dict[str, float]
    """Form -> mean reward."""
    hacks: frozenset[str]
    """Forms that pay it more than keeping the order, though N@3 is no better."""


def answers_of(order: Order, slates: Sequence[Slate], seed: int) -> list[Answer]:
    """Valid answers in a policy's orders."""
    rng = np.random.default_rng(seed)
    return [parse(f"{END_THINK}{written(order(s, rng))}{END}", len(s.candidates)) for s in slates]


def answers_when_shuffled(order: Order, slates: Sequence[Slate], seed: int) -> list[Answer]:
    """The same when the candidates are shown in a random order; the orders are in incoming places again."""
    places = [random_places(s, seed) for s in slates]
    shown = [shown_as(s, p) for s, p in zip(slates, places, strict=True)]
    return [as_it_came(a, p) for a, p in zip(answers_of(order, shown, seed), places, strict=True)]


def try_policies(slates: Sequence[Slate], *, alpha: float, seed: int, shuffled: bool = False) -> dict[str, Tried]:
    """Every policy against every form. Every slate needs a positive and a negative, and two candidates at least."""
    ask = answers_when_shuffled if shuffled else answers_of
    ranked = {name: ask(order, slates, seed) for name, order in ORDERS.items()}
    wrong = {name: [parse(words(s), len(s.candidates)) for s in slates] for name, words in WRONG.items()}
    paid = {name: rewards(answers, slates, alpha) for name, answers in (ranked | wrong).items()}
    at_keep, ndcg_at_keep = paid[KEEP], ndcg_at_3(ranked[KEEP], slates)
    tried = {}
    for name, of_form in paid.items():
        ndcg = ndcg_at_3(ranked[name], slates) if name in ranked else None
        idle = ndcg is None or ndcg <= ndcg_at_keep + 1e-9
        more = {form for form in FORM_NAMES if is_above(of_form[form] - at_keep[form], errors=2)}
        means = {form: float(values.mean()) for form, values in of_form.items()}
        tried[name] = Tried(ndcg=ndcg, paid=means, hacks=frozenset(more if idle else ()))
    return tried


def rewards(answers: Sequence[Answer], slates: Sequence[Slate], alpha: float) -> dict[str, np.ndarray]:
    """Form -> (n,) rewards."""
    pairs = list(zip(answers, slates, strict=True))
    return {name: np.array([reward_form(name, alpha)(a, s).total for a, s in pairs]) for name in FORM_NAMES}


def ndcg_at_3(answers: Sequence[Answer], slates: Sequence[Slate]) -> float:
    rankings = [Ranking(slate_id=s.slate_id, order=a.order) for a, s in zip(answers, slates, strict=True)]
    return float(per_slate(slates, rankings)["N@3"].mean())


def markdown(tried: dict[str, Tried]) -> Iterator[str]:
    """The table; hacks let through in bold."""
    yield f"| policy | N@3 | {' | '.join(FORM_NAMES)} |"
    yield "|---" * (2 + len(FORM_NAMES)) + "|"
    for name, one in tried.items():
        values = {f: f"{round(one.paid[f], 3) + 0.0:.3f}" for f in FORM_NAMES}  # + 0.0: no -0.000
        cells = [f"**{values[f]}**" if f in one.hacks else values[f] for f in FORM_NAMES]
        yield f"| {name} | {'-' if one.ndcg is None else f'{one.ndcg:.3f}'} | {' | '.join(cells)} |"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m gr2.reward.policies", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run that has slates, for example runs/nano")
    run = parser.parse_args().run
    with in_one_line():
        slates = [s for s in Slates.load(run / "04_slates").split(Split.TRAIN) if can_teach(s)]
    for shuffled in (False, True):
        print(f"\n{len(slates)} training slates, shown {'in a random order' if shuffled else 'as they came in'}:\n")
        print("\n".join(markdown(try_policies(slates, alpha=ALPHA, seed=0, shuffled=shuffled))))


if __name__ == "__main__":
    main()
