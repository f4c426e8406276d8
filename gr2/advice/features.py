"""What the advice and the legacy re-rankers see of a candidate: some hundred features of slate, counts, text and ids.
(ours)

A training slate sees only the counts of other users (see `counts`), all as shares, so that it looks as a
test slate does. Recent popularity counts only events before the slate's cut-off.

Shapes: S slates, H history events (newest first, padded), K candidates (padded), N items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gr2.advice.counts import SOON, WINDOWS, Counts, CrossCounts, cross_count, look_up
from gr2.artifacts import Corpus
from gr2.retrieve.folds import user_folds
from gr2.retrieve.neighbours import NO_VOTE
from gr2.types import DAY, Slate

CHUNK = 512
FOLDS = 4
RECENT_DAYS = (1, 3, 7, 14, 30, 90, 365)
WEEK, QUARTER = 7, 90
SEASONS = (90, 365)
"""Days in which a transition counts as recent."""
SOON_OF = 10
"""Newest history events whose times, recent transitions and baskets are looked at."""
SESSION = DAY
"""Seconds before the cut-off in which an event is of the same session."""
SHRINK = 5.0
"""Added to both counts under a cosine, so that two rare items that met once are no perfect match."""
DECAY = 0.9
"""Weight of a history event relative to the one after it."""
SCORES = ("score", "score_below_first")
"""The features that only a pre-ranker's scores give; advice does without."""
MOMENT = ("history_length", "gap", "session", "gap_before")
"""The features that are equal over a slate: they say which of the others matter."""
Table = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """All that features are computed from."""

    corpus: Corpus
    counts: CrossCounts
    vectors: np.ndarray | None = None
    """(N, D) text vectors of length one, in the order of `corpus.items`."""
    codes: np.ndarray | None = None
    """(N, L) semantic-id codes."""

    @cached_property
    def genres_NG(self) -> np.ndarray:
        """Categories of each item, as rows of length one; zeros where it has none."""
        number = {name: g for g, name in enumerate(sorted({c for item in self.corpus.items for c in item.categories}))}
        has = np.zeros((len(self.corpus.items), len(number)), dtype=np.float32)
        for row, item in enumerate(self.corpus.items):
            has[row, [number[c] for c in item.categories]] = 1
        return has / np.sqrt(has.sum(1, keepdims=True).clip(1))

    @cached_property
    def years_N(self) -> np.ndarray:
        """Year of each item; NaN where unknown."""
        return np.array([np.nan if i.year is None else i.year for i in self.corpus.items], dtype=np.float32)

    @classmethod
    def of(
        cls, corpus: Corpus, seed: int, vectors: np.ndarray | None = None, codes: np.ndarray | None = None
    ) -> "Knowledge":
        """Count the training events, cross-fitted over FOLDS folds of users."""
        fold_of = user_folds([t.user_id for t in corpus.timelines], FOLDS, seed)
        return cls(corpus=corpus, counts=cross_count(corpus, fold_of), vectors=vectors, codes=codes)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Slates as padded arrays of catalogue rows (0 where padded) and their masks, with the counts they may see."""

    slates: Sequence[Slate]
    counts: Counts
    history_SH: np.ndarray
    real_SH: np.ndarray
    candidates_SK: np.ndarray

    @cached_property
    def now_S1(self) -> np.ndarray:
        """Seconds before which an event counts as recent: the cut-offs, or the end of what is counted."""
        return np.array([[min(s.time, self.counts.until)] for s in self.slates], dtype=np.int64)

    @cached_property
    def after(self) -> dict[int, np.ndarray]:
        """window w -> (S, H, K) users with the candidate at most w places after the history item."""
        history, candidates = self.history_SH[:, :, None], self.candidates_SK[:, None, :]
        return {w: look_up(follows, history, candidates) for w, follows in self.counts.follows.items()}

    @cached_property
    def ages_SH(self) -> np.ndarray:
        """Seconds from the newest SOON_OF history events to the cut-off; NaN where unknown, infinite where padded."""
        newest_SH = self.real_SH[:, :SOON_OF]
        ages_SH = np.where(newest_SH, np.nan, np.inf)
        for s, slate in enumerate(self.slates):
            if slate.history_times:
                times = np.array(slate.history_times[: -SOON_OF - 1 : -1])
                ages_SH[s, : len(times)] = np.maximum(0, slate.time - times)
        return ages_SH


def features(slates: Sequence[Slate], knowledge: Knowledge) -> tuple[list[str], list[np.ndarray]]:
    """Names (F,), and a (K, F) float32 matrix for each slate, candidates in incoming order."""
    folds = np.array([knowledge.counts.which(s) for s in slates])
    matrices: list[np.ndarray] = [np.zeros(0)] * len(slates)
    names: list[str] = []
    for fold in np.unique(folds):
        members = np.flatnonzero(folds == fold)
        for chosen in np.array_split(members, -(-len(members) // CHUNK)):
            table = _table([slates[i] for i in chosen], knowledge, knowledge.counts.without(int(fold)))
            names = list(table)
            stacked_SKF = np.stack(list(table.values()), axis=-1).astype(np.float32)
            for i, matrix in zip(chosen, stacked_SKF, strict=True):
                matrices[i] = matrix[: len(slates[i].candidates)]
    return names, matrices


def _table(slates: Sequence[Slate], knowledge: Knowledge, counts: Counts) -> Table:
    row = knowledge.corpus.row
    history_SH, real_SH = _pad([[row[i] for i in reversed(s.history)] for s in slates])
    candidates_SK, _ = _pad([[row[i] for i in s.candidates] for s in slates])
    batch = Batch(slates=slates, counts=counts, history_SH=history_SH, real_SH=real_SH, candidates_SK=candidates_SK)
    table = {**incoming(batch), **moment(batch), **popularity(batch), **covisitation(batch)}
    table |= {**recent_covisitation(batch), **catalogue(batch, knowledge)}
    if knowledge.vectors is not None:
        table |= text(batch, knowledge.vectors)
    if knowledge.codes is not None:
        table |= prefixes(batch, knowledge.codes)
    return table


def incoming(batch: Batch) -> Table:
    """What the pre-ranker and the neighbours said, and the length of the history."""
    ranks = np.arange(batch.candidates_SK.shape[1])[None, :] + 0 * batch.candidates_SK
    scores, votes = np.zeros(ranks.shape), np.zeros(ranks.shape)
    for s, slate in enumerate(batch.slates):
        scores[s, : len(slate.scores)] = slate.scores
        votes[s, : len(slate.votes)] = slate.votes
    return {
        "rank": ranks,
        "score": scores,
        "score_below_first": scores - scores[:, :1],
        "votes": np.log(votes + NO_VOTE),
        "votes_rank": (votes[:, :, None] < votes[:, None, :]).sum(2),
        "history_length": batch.real_SH.sum(1)[:, None] + 0 * ranks,
    }


def moment(batch: Batch) -> Table:
    """When it is: days since the newest history event (log), how many are of this session, and days since the newest
    one before it (log). NaN where unknown."""
    ages_SH, every = batch.ages_SH, 0.0 * batch.candidates_SK
    before_SH = np.where(ages_SH < SESSION, np.inf, ages_SH)
    session_S1 = np.where(np.isnan(ages_SH[:, :1]), np.nan, (ages_SH < SESSION).sum(1, keepdims=True))
    return {
        "gap": _days(ages_SH[:, :1]) + every,
        "session": session_S1 + every,
        "gap_before": _days(before_SH.min(1, keepdims=True)) + every,
    }


def _days(seconds: np.ndarray) -> np.ndarray:
    """log(1 + days), of ten thousand days at most."""
    return np.log1p(np.minimum(seconds / DAY, 1e4))


def popularity(batch: Batch) -> Table:
    """Share of users with the candidate: ever, and in the days before the cut-off (log); whether it sells faster this
    week than this quarter (log); days since its first and last event (log)."""
    counts, items, now = batch.counts, batch.candidates_SK, batch.now_S1
    recent = {d: counts.between(items, now - d * DAY, now) for d in RECENT_DAYS}
    users = {"popularity": counts.popularity[items], **{f"popularity_{d}d": n for d, n in recent.items()}}
    first, last = counts.span_before(items, now)
    return {
        **{name: np.log((n + 1) / (counts.n_users + 1)) for name, n in users.items()},
        "popularity_trend": np.log((recent[WEEK] + 0.5) / (recent[QUARTER] + 0.5 * QUARTER / WEEK)),
        "age": np.log1p((now - first) / DAY),
        "idle": np.log1p((now - last) / DAY),
    }


def covisitation(batch: Batch) -> Table:
    """How often users who had a history item had the candidate: at all, near it, and soon after it."""
    counts = batch.counts
    history, candidates = batch.history_SH[:, :, None], batch.candidates_SK[:, None, :]
    users_h, users_c = counts.popularity[history] + SHRINK, counts.popularity[candidates] + SHRINK
    norm = np.sqrt(users_h * users_c)
    together = look_up(counts.together, history, candidates) / norm
    table = over_history("together", together, batch.real_SH, (1, 3, 10, 50))
    table |= {"together_max": np.where(batch.real_SH[:, :, None], together, 0).max(1)}
    for w in WINDOWS:
        after, before = batch.after[w], look_up(counts.follows[w], candidates, history)
        table |= over_history(f"near{w}", (after + before) / norm, batch.real_SH, (1, 3, 10))
        table |= over_history(f"after{w}", after / users_h, batch.real_SH, (1, 3, 10))
    return table


def recent_covisitation(batch: Batch) -> Table:
    """How often users who had one of the newest history items had the candidate on the same day, or soon after it and
    lately."""
    counts = batch.counts
    history, real_SH = batch.history_SH[:, :SOON_OF, None], batch.real_SH[:, :SOON_OF]
    candidates, now = batch.candidates_SK[:, None, :], batch.now_S1[:, :, None]
    users_h = counts.popularity[history] + SHRINK
    baskets = look_up(counts.baskets, history, candidates)
    table = over_history("basket", baskets / users_h, real_SH, (1, 3, 10))
    for w in SOON:
        for d in SEASONS:
            lately = counts.soon[w].between(history, candidates, now - d * DAY, now)
            table |= over_history(f"after{w}_{d}d", lately / users_h, real_SH, (1, 3))
    after = {w: batch.after[w][:, :SOON_OF] for w in SOON}
    for w in SOON:
        table |= by_session(f"after{w}", after[w] / users_h, batch)
    apart = np.maximum(after[max(SOON)] - baskets, 0) / users_h
    return {**table, **by_session("basket", baskets / users_h, batch), **over_history("apart", apart, real_SH, (1, 10))}


def by_session(name: str, values_SHK: np.ndarray, batch: Batch) -> Table:
    """Means over the newest events that are of this session, and over those before it; NaN where times are unknown."""
    unknown_S1 = np.isnan(batch.ages_SH[:, :1])
    session_SH = batch.ages_SH < SESSION
    table = {}
    for when, chosen_SH in (("session", session_SH), ("before", batch.real_SH[:, :SOON_OF] & ~session_SH)):
        total_SK = np.where(chosen_SH[:, :, None], values_SHK, 0).sum(1)
        table[f"{name}_{when}"] = np.where(unknown_S1, np.nan, total_SK / chosen_SH.sum(1, keepdims=True).clip(1))
    return table


def over_history(name: str, values_SHK: np.ndarray, real_SH: np.ndarray, spans: Sequence[int]) -> Table:
    """Means over the newest events of the history, and a sum that decays with age; (S, K) each."""
    values = np.where(real_SH[:, :, None], values_SHK, 0)
    lengths = real_SH.sum(1)[:, None]
    table = {f"{name}_last{n}": values[:, :n].sum(1) / np.clip(lengths, 1, n) for n in spans}
    weights = DECAY ** np.arange(values.shape[1])
    return {**table, f"{name}_decayed": np.einsum("shk,h->sk", values, weights)}


def catalogue(batch: Batch, knowledge: Knowledge) -> Table:
    """Genres and years of the candidate against the history's."""
    years_N = knowledge.years_N
    year_SK = years_N[batch.candidates_SK]
    past_SH = np.where(batch.real_SH, years_N[batch.history_SH], np.nan)
    known = ~np.isnan(past_SH)
    mean_S1 = np.where(known, past_SH, 0).sum(1, keepdims=True) / np.where(known.any(1), known.sum(1), np.nan)[:, None]
    return {
        **over_history("genre", _cosines(knowledge.genres_NG, batch), batch.real_SH, (1, 10, 50)),
        "year": year_SK,
        "year_from_last": year_SK - past_SH[:, :1],
        "year_from_mean": year_SK - mean_S1,
    }


def text(batch: Batch, vectors_ND: np.ndarray) -> Table:
    """Cosines of the text vectors."""
    cosines = _cosines(vectors_ND, batch)
    closest = np.where(batch.real_SH[:, :, None], cosines, -1).max(1)
    sessions = by_session("text", cosines[:, :SOON_OF], batch)
    return {**over_history("text", cosines, batch.real_SH, (1, 3, 10, 50)), **sessions, "text_max": closest}


def prefixes(batch: Batch, codes_NL: np.ndarray) -> Table:
    """Number of leading codes shared with history items."""
    same = codes_NL[batch.history_SH][:, :, None] == codes_NL[batch.candidates_SK][:, None]
    return over_history("prefix", np.cumprod(same, axis=-1).sum(-1), batch.real_SH, (1, 10, 50))


def _cosines(vectors_ND: np.ndarray, batch: Batch) -> np.ndarray:
    return np.einsum("shd,skd->shk", vectors_ND[batch.history_SH], vectors_ND[batch.candidates_SK], optimize=True)


def _pad(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    width = max(1, *(len(r) for r in rows))
    padded, real = np.zeros((len(rows), width), dtype=np.int64), np.zeros((len(rows), width), dtype=bool)
    for i, r in enumerate(rows):
        padded[i, : len(r)], real[i, : len(r)] = r, True
    return padded, real
