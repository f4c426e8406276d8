"""How a ranker came to its rankings: is it re-ranking, or echoing, or leaning on position? (DESIGN §5)

Rankings are of the slates as stored, so position 0 is what the pre-ranker put first. K candidates a slate;
where slates differ in length, K is the longest.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import kendalltau

from gr2.types import Ranking, Slate

Order = Sequence[int]
HEAD = 3
"""Places that count as the head of a slate for `tail_only`."""


def echo_share(rankings: Sequence[Ranking]) -> float:
    """Share of rankings that equal the incoming order."""
    return float(np.mean([r.order == tuple(range(len(r.order))) for r in rankings]))


def tail_only_share(rankings: Sequence[Ranking]) -> float:
    """Share that keep the incoming first HEAD places and move only what is below: P2's hack, an echo in disguise."""
    identity = tuple(range(HEAD))
    return float(np.mean([r.order[:HEAD] == identity and list(r.order) != sorted(r.order) for r in rankings]))


def tau_to_incoming(rankings: Sequence[Ranking]) -> float:
    """Mean Kendall tau to the incoming order: 1 echo, 0 unrelated, -1 reversed."""
    return float(np.mean([_tau(r.order, range(len(r.order))) for r in rankings]))


def moves(rankings: Sequence[Ranking]) -> np.ndarray:
    """(K, K) counts: [from incoming position, to position]. Its first column says where the answers come from."""
    k = max(len(r.order) for r in rankings)
    counts = np.zeros((k, k), dtype=np.int64)
    for r in rankings:
        counts[list(r.order), range(len(r.order))] += 1
    return counts


def target_positions(slates: Sequence[Slate]) -> np.ndarray:
    """(K,) slates whose target came in at each position."""
    return np.bincount([s.target for s in slates], minlength=max(len(s.candidates) for s in slates))


def status_shares(rankings: Sequence[Ranking]) -> dict[str, float]:
    """Share of answers by parse status, before any fallback; all but `valid` are invalid."""
    counts = Counter(r.status.value for r in rankings)
    return {status: n / len(rankings) for status, n in sorted(counts.items())}


def shuffle_agreement(rankings: Sequence[Ranking], shuffled: Sequence[Ranking]) -> dict[str, float]:
    """Do answers survive when the same slates are shown in another order?

    Both name candidates by their stored positions. `same_first` is the share of slates with the same first item,
    `tau` the mean Kendall tau between the two rankings. Only slates in both count.
    """
    other = {r.slate_id: r.order for r in shuffled}
    pairs = [(r.order, other[r.slate_id]) for r in rankings if r.slate_id in other]
    return {
        "same_first": float(np.mean([a[0] == b[0] for a, b in pairs])),
        "tau": float(np.mean([_tau(a, b) for a, b in pairs])),
    }


def tail_swap_profit(slates: Sequence[Slate], reward: Callable[[Order, Slate], float]) -> float:
    """What a reward pays, on average, for swapping the last two candidates rather than keeping the order.

    Above zero the reward can be won without moving anything a person sees (P2 §4, Eq. 7's gap).
    """
    gains = []
    for slate in slates:
        keep = tuple(range(len(slate.candidates)))
        gains.append(reward((*keep[:-2], keep[-1], keep[-2]), slate) - reward(keep, slate))
    return float(np.mean(gains))


def probes(rankings: Sequence[Ranking]) -> dict[str, float]:
    """The numbers of one ranker that go into Scores.probes."""
    return {
        "echo_share": echo_share(rankings),
        "tail_only_share": tail_only_share(rankings),
        "tau_to_incoming": tau_to_incoming(rankings),
        "first_from_first_share": float(np.mean([r.order[0] == 0 for r in rankings])),
        "invalid_share": 1 - status_shares(rankings).get("valid", 0.0),
    }


def _tau(a: Order, b: Order) -> float:
    """Kendall tau of two rankings of the same candidates; 1.0 for a single candidate."""
    return float(kendalltau(np.argsort(a), np.argsort(b)).statistic) if len(a) > 1 else 1.0
