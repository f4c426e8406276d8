"""The compressor beside simple rivals on the same slates. (ours)

Every way of shortening keeps as many events of a history as the compressor does, and the run's direct ranker
(10_direct) ranks the same slates with each. All are compared with the whole context, paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from gr2.compress import rivals
from gr2.compress.context import Compressor
from gr2.compress.costs import LONG, Costs
from gr2.evaluate.headline import p_text
from gr2.evaluate.metrics import per_slate
from gr2.evaluate.significance import Draws, interval, paired_p
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.generate import prompt_tokens
from gr2.lm.rank import rank_in_one_pass
from gr2.types import Slate

METRICS = ("R@1", "R@3", "N@3")
WHOLE = "whole"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One metric on n slates."""

    value: float
    low: float
    high: float
    difference: tuple[float, float, float]
    """To the whole context, with its paired 95 % interval."""
    p: float
    """Paired two-sided p of no difference."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way of shortening, on one group of slates."""

    group: str
    name: str
    n: int
    context_share: float
    """Tokens of the history over those of the whole one: the mean of the slates'."""
    over_budget: int
    """Slates whose share is not under the compressor's limit."""
    prompt_tokens: float
    """Mean of the whole prompt."""
    metrics: Mapping[str, Cell]


def shortened(slates: Sequence[Slate], compressor: Compressor, shown: int, seed: int) -> dict[str, list[Slate]]:
    """Name -> the slates with the history that it shows; `slates` hold the whole one, `shown` is the ranker's own."""
    popularity = {item: float(compressor.catalogue.popularity[row]) for item, row in compressor.row.items()}
    row = dict(compressor.row)
    short = [compressor.shorten(s) for s in slates]
    ways: dict[str, rivals.Keep] = {
        "last n": rivals.last,
        "random n": lambda s, n: rivals.at_random(s, n, seed),
        "most popular n": lambda s, n: rivals.most_popular(s, n, popularity),
        "nearest n to the candidates": lambda s, n: rivals.nearest(s, n, compressor.catalogue, row),
    }
    kept = {
        name: [s.showing(keep(s, len(c.history))) for s, c in zip(slates, short, strict=True)]
        for name, keep in ways.items()
    }
    newest = [s.newest(shown) for s in slates]
    nothing = [s.showing(()) for s in slates]
    return {WHOLE: list(slates), "compressor": short, **kept, f"newest {shown}": newest, "no history": nothing}


def rows(ranker: Checkpoint, by_name: Mapping[str, Sequence[Slate]], limit: float, seed: int) -> list[Row]:
    """The table: long histories first, then all. Slates are in one order under every name."""
    whole = by_name[WHOLE]
    long = [i for i, s in enumerate(whole) if len(s.history) >= LONG]
    values = {
        name: per_slate(slates, rank_in_one_pass(ranker, slates, batch_size=64, label=name))
        for name, slates in by_name.items()
    }
    tokens = {name: np.array([len(t) for t in context_tokens(ranker, slates)]) for name, slates in by_name.items()}
    prompts = {
        name: np.array([len(t) for t in prompt_tokens(ranker, slates, think=False)]) for name, slates in by_name.items()
    }
    found = []
    for group, chosen in ((f"histories of {LONG} events or more", long), ("all", list(range(len(whole))))):
        if not chosen:
            continue
        users = [whole[i].user_id for i in chosen]
        draws = Draws.of(users, seed)
        for name in by_name:
            share = tokens[name][chosen] / np.maximum(1, tokens[WHOLE][chosen])
            found.append(
                Row(
                    group=group,
                    name=name,
                    n=len(chosen),
                    context_share=float(share.mean()),
                    over_budget=int((share >= limit).sum()),
                    prompt_tokens=float(prompts[name][chosen].mean()),
                    metrics={m: cell(values[name][m][chosen], values[WHOLE][m][chosen], users, draws) for m in METRICS},
                )
            )
    return found


def cell(ours_n: np.ndarray, whole_n: np.ndarray, users: Sequence[str], draws: Draws) -> Cell:
    """Bootstrap over users."""
    means_D2 = draws.means([ours_n, whole_n], users)
    difference_D = means_D2[:, 0] - means_D2[:, 1]
    observed = float((ours_n - whole_n).mean())
    low, high = interval(means_D2[:, 0])
    return Cell(
        value=float(ours_n.mean()),
        low=low,
        high=high,
        difference=(observed, *interval(difference_D)),
        p=paired_p(observed, difference_D),
    )


def context_tokens(ranker: Checkpoint, slates: Sequence[Slate]) -> list[list[int]]:
    """Token numbers of the histories alone, as the prompt spells them."""
    texts = ["".join(ranker.renderer.item(i) for i in s.history) for s in slates]
    encoded = ranker.tokenizer(texts, add_special_tokens=False)
    return list(encoded["input_ids"])


def markdown(table: Sequence[Row], saved: Costs, limit: float) -> str:
    """The table and the costs for a page; `limit`: the share of the context that a short one stays under."""
    lines = []
    for group in dict.fromkeys(row.group for row in table):
        of_group = [row for row in table if row.group == group]
        lines += [
            f"\n{group}, n = {of_group[0].n}:\n",
            f"| | context tokens | at {limit:.0%} or over | prompt tokens | " + " | ".join(METRICS) + " |",
            "| --- | ---: | ---: | ---: |" + " ---: |" * len(METRICS),
        ]
        for row in of_group:
            said = " | ".join(_said(row.metrics[m], row.name == WHOLE) for m in METRICS)
            share, prompt = f"{row.context_share:.1%}", f"{row.prompt_tokens:.0f}"
            lines.append(f"| {row.name} | {share} | {row.over_budget} | {prompt} | {said} |")
    return "\n".join([*lines, "", ", ".join(f"{name} {value:.4g}" for name, value in asdict(saved).items())])


def _said(value: Cell, reference: bool) -> str:
    text = f"{value.value:.3f}<br>{value.low:.3f}-{value.high:.3f}"
    if reference:
        return text
    d, low, high = value.difference
    return f"{text}<br>{d:+.3f} ({low:+.3f} to {high:+.3f}), {p_text(value.p)}"
