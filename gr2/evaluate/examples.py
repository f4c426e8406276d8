"""Example slates for the report: who saw what, in which order it came and went, and what the model thought."""

import random
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from gr2.artifacts import Corpus, Rankings, SemanticIds
from gr2.prompt.readable import segments
from gr2.types import AnswerStatus, Item, Ranking, SemanticId, Slate

N = 10
HISTORY = 8
"""Newest titles shown."""


def examples(run: Path, slates: Sequence[Slate], rankings: Rankings) -> Iterator[str]:
    """N of the ranked slates, drawn with a fixed seed, as HTML cards."""
    items = {item.item_id: item for item in Corpus.load(run / "01_corpus").items}
    ids = SemanticIds.load(run / "02_sids").of
    by_slate = {r.slate_id: r for r in rankings.rankings}
    ranked = [slate for slate in slates if slate.slate_id in by_slate]
    for slate in random.Random(0).sample(ranked, min(N, len(ranked))):
        yield card(slate, by_slate[slate.slate_id], items, ids)


def card(slate: Slate, ranking: Ranking, items: Mapping[str, Item], ids: Mapping[str, SemanticId]) -> str:
    """One slate: where its target went, the newest history, both orders, the thought."""
    came, went = slate.target + 1, ranking.order.index(slate.target) + 1
    colour = "good" if went < came else "bad" if went > came else ""
    newest = "; ".join(escape(items[i].title) for i in slate.history[: -HISTORY - 1 : -1])
    invalid = "" if ranking.status is AnswerStatus.VALID else f"<p>Not a valid answer ({ranking.status}): kept.</p>"
    thought = f"<blockquote>{_thought(slate, ranking, items, ids)}</blockquote>" if ranking.thought else ""
    return (
        f'<article class="slate"><header><h3>User {escape(slate.user_id)}, slate {escape(slate.slate_id)}</h3>'
        f'<span class="{colour}">target {came} → {went}</span></header>'
        f'<p class="note">Newest first: {newest or "no history"}</p>{invalid}{_orders(slate, ranking, items)}{thought}'
        "</article>"
    )


def _orders(slate: Slate, ranking: Ranking, items: Mapping[str, Item]) -> str:
    head = '<th class="place"></th><th>came in</th><th>re-ranked</th><th class="was">was</th>'
    rows = "".join(
        f'<tr><td class="place">{place + 1}</td>{_title(slate, place, items)}{_title(slate, after, items)}'
        f'<td class="was">{_move(after, place)}</td></tr>'
        for place, after in enumerate(ranking.order)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _title(slate: Slate, candidate: int, items: Mapping[str, Item]) -> str:
    kind = ' class="target"' if slate.gains[candidate] else ""
    return f"<td{kind}>{escape(items[slate.candidates[candidate]].title)}</td>"


def _move(came: int, went: int) -> str:
    return "" if came == went else f"{'↑' if came > went else '↓'} {came + 1}"


def _thought(slate: Slate, ranking: Ranking, items: Mapping[str, Item], ids: Mapping[str, SemanticId]) -> str:
    parts = segments(ranking.thought, slate, ids)
    return "".join(f"<cite>{escape(items[item].title)}</cite>" if item else escape(text) for text, item in parts)
