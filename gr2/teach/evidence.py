"""What the evidence teacher knows of a slate and its student does not: statistics of all training events. (ours)

Seven kinds of evidence, each a few features of every candidate: co-visits (other viewers who had both films, near each
other, and viewers alike), genre and era (of the user's recent history), series, brand, popularity (of all time and
of late) and the incoming order. The counts are those of `visits`: training events of everybody but the slate's user.

Shapes: S slates, K candidates, H history events, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gr2.artifacts import Corpus
from gr2.progress import track
from gr2.retrieve.neighbours import FADING, RECENT, votes
from gr2.teach import visits as visiting
from gr2.teach.rows import Rows
from gr2.teach.series import series_of
from gr2.teach.visits import WINDOWS, Visits
from gr2.types import DAY, Item

FEATURES = (
    ("incoming score", "order"),
    ("incoming position", "order"),
    *((f"after, {w} places", "co-visits") for w in WINDOWS),
    ("just before", "co-visits"),
    ("together", "co-visits"),
    ("viewers alike", "co-visits"),
    ("genre of late", "genre"),
    ("genre", "genre"),
    ("era", "era"),
    ("series of the newest", "series"),
    ("series", "series"),
    ("brand", "brand"),
    ("popular", "popular"),
    ("popular this week", "popular"),
    ("popular this month", "popular"),
)
"""(name, kind) of each of the F features."""
KINDS = tuple(dict.fromkeys(kind for _, kind in FEATURES))
CHUNK = 256
HISTORY = 30
"""Newest history events that are looked at."""
SHRINK = 5.0
"""Viewers added below a share, so that one rare film seen once is no certainty."""
ERA = 5.0
"""Years at which likeness in time has fallen to 1/e."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that evidence is read from."""

    visits: Visits
    tags: np.ndarray
    """(N, categories) float32, rows of unit length, rare categories weighing more."""
    years: np.ndarray
    """(N,) year; NaN when unknown."""
    series: np.ndarray
    """(N,) number of the series."""
    brands: np.ndarray
    """(N,) number of the brand; -1 when unknown."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The evidence on some slates."""

    features: np.ndarray
    """(S, K, F) float32."""
    links: np.ndarray
    """(S, K, H) float32: how strongly each history event (newest first) speaks for each candidate by co-visits."""


def count(corpus: Corpus) -> Evidence:
    """Count training events and read the catalogue."""
    brands = {b: i for i, b in enumerate(dict.fromkeys(item.brand for item in corpus.items if item.brand))}
    return Evidence(
        visits=visiting.count(corpus),
        tags=tags_of(corpus.items),
        years=np.array([item.year or np.nan for item in corpus.items], dtype=np.float64),
        series=np.array(series_of(corpus.items)),
        brands=np.array([brands.get(item.brand or "", -1) for item in corpus.items]),
    )


def find(evidence: Evidence, rows: Rows, label: str | None = "evidence on slates") -> Findings:
    """Look at every slate; without a label no progress is shown."""
    starts = range(0, len(rows.users), CHUNK)
    parts = [_find(evidence, rows.part(slice(at, at + CHUNK))) for at in track(starts, label)]
    return Findings(
        features=np.concatenate([features for features, _ in parts]),
        links=np.concatenate([links for _, links in parts]),
    )


def tags_of(items: Sequence[Item]) -> np.ndarray:
    """Categories weighed by the log of their rarity."""
    names = {name: i for i, name in enumerate(sorted({c for item in items for c in item.categories}))}
    has = np.zeros((len(items), len(names)), np.float32)
    for row, item in enumerate(items):
        has[row, [names[c] for c in item.categories]] = 1
    weighed = has * np.log(len(items) / np.maximum(has.sum(0), 1))
    return weighed / np.maximum(np.linalg.norm(weighed, axis=1, keepdims=True), 1e-9)


def _find(evidence: Evidence, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    covisits, links = _covisits(evidence.visits, rows)
    columns = [*_order(rows), *covisits, _alike(evidence.visits, rows), *_content(evidence, rows)]
    columns += _popular(evidence.visits, rows)
    return np.stack(columns, axis=2).astype(np.float32) * rows.real[:, :, None], links


def _order(rows: Rows) -> list[np.ndarray]:
    positions = np.broadcast_to(np.arange(rows.candidates.shape[1]), rows.candidates.shape)
    return [rows.scores, -np.log1p(positions)]


def _covisits(visits: Visits, rows: Rows) -> tuple[list[np.ndarray], np.ndarray]:
    """Pair counts of every history event and candidate as cosines or shares, the newest events weighing most."""
    user, history, candidate = rows.users[:, None, None], rows.history[:, None, :], rows.candidates[:, :, None]
    known = (history >= 0) & (candidate >= 0)
    history, candidate = np.maximum(history, 0), np.maximum(candidate, 0)
    n, m = visits.others_with(user, history), visits.others_with(user, candidate)
    fading = known * FADING ** np.arange(history.shape[2])
    cosine, share = fading / np.sqrt(np.maximum(n * m, 1)), fading / (n + SHRINK)
    after = [visits.others_after(w, user, history, candidate) * cosine for w in WINDOWS]
    before = visits.others_after(WINDOWS[-1], user, candidate, history)
    together = visits.others_together(user, history, candidate)
    links = (after[-1] + before * cosine).astype(np.float32)
    return [pairs.sum(2) for pairs in (*after, before * share, together * share)], links


def _alike(visits: Visits, rows: Rows) -> np.ndarray:
    """Have the viewers most like this one seen the candidate near what this one has just seen, and more than others?"""
    counted = votes(visits.neighbours, visits.neighbours.has, rows.users, rows.history, rows.candidates)
    candidates = np.maximum(rows.candidates, 0)
    return np.log(counted / (visits.others_with(rows.users[:, None], candidates) + SHRINK) + 1e-4)


def _content(evidence: Evidence, rows: Rows) -> list[np.ndarray]:
    """Genre, era, series and brand of each candidate against those of the history."""
    history, candidates = np.maximum(rows.history, 0), np.maximum(rows.candidates, 0)
    known = rows.history >= 0
    share = known / np.maximum(known.sum(1, keepdims=True), 1)
    recent = known[:, :RECENT] / np.maximum(known[:, :RECENT].sum(1, keepdims=True), 1)
    newest = known[:, :3] / np.maximum(known[:, :3].sum(1, keepdims=True), 1)
    tags = evidence.tags[candidates]
    genre = [
        np.einsum("skg,sg->sk", tags, np.einsum("shg,sh->sg", evidence.tags[history[:, : w.shape[1]]], w))
        for w in (newest, share)
    ]
    past = history[:, None, :RECENT]
    years = np.abs(evidence.years[candidates][:, :, None] - evidence.years[past])
    era = (np.nan_to_num(np.exp(-years / ERA)) * recent[:, None]).sum(2)
    series = (evidence.series[candidates][:, :, None] == evidence.series[past]) & known[:, None, :RECENT]
    brand = evidence.brands[candidates]
    same_brand = (brand[:, :, None] == evidence.brands[past]) & (brand >= 0)[:, :, None]
    return [*genre, era, series[:, :, 0], series.any(2), (same_brand * recent[:, None]).sum(2)]


def _popular(visits: Visits, rows: Rows) -> list[np.ndarray]:
    """Log counts: of all time, and how far the last week and month stand above that."""
    users, candidates = rows.users[:, None], np.maximum(rows.candidates, 0)
    now = rows.times[:, None]
    ever = np.log1p(visits.others_with(users, candidates))
    lately = [np.log1p(visits.others_between(users, candidates, now - days * DAY, now)) - ever for days in (7, 30)]
    return [ever, *lately]
