"""What a short context earns (P2 §5).

    r_judge = 0.2 p + 0.8 q   if the ranker, reading the short context, puts the target first ("solvable")
    r_judge = 0.8 p + 0.2 q   otherwise
    r_comp  = max(0, 1 - |short| / |whole|)
    r       = alpha r_comp + (1 - alpha) r_judge / 10

p and q are marks of 1 to 10. The papers' judge is a language model; here the ranker judges (ours): q = 1 + 9 NDCG of
its ranking on the short context, not less that on the whole one, which would pay for losing the target, since p is
mostly the higher mark (docs/09-compress.md), and p = 1 + 9 times the share of the history that can be read back.
r_judge is divided by 10 so that both parts lie within 0 and 1 (the papers do not say). The papers' factor against "..."
is left out: an extract has none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gr2.reward.scores import ndcg
from gr2.types import Item


@dataclass(frozen=True, kw_only=True)
class Compression:
    """A reward and its parts."""

    solvable: bool
    preservation: float
    """p, 1 to 10."""
    quality: float
    """q, 1 to 10."""
    shortness: float
    """r_comp, 0 to 1."""
    total: float
    """0 to 1."""


def compression_reward(
    *, order: Sequence[int], gains: Sequence[int], read: float, share: float, alpha: float
) -> Compression:
    """`order`: the ranking on the short context; `read`: share of the whole that can be read back from it; `share`:
    |short| / |whole|."""
    solvable = order[0] == gains.index(max(gains))
    quality = 1 + 9 * ndcg(order, gains)
    preservation = 1 + 9 * read
    weight = 0.2 if solvable else 0.8
    shortness = max(0.0, 1 - share)
    judged = weight * preservation + (1 - weight) * quality
    return Compression(
        solvable=solvable,
        preservation=preservation,
        quality=quality,
        shortness=shortness,
        total=alpha * shortness + (1 - alpha) * judged / 10,
    )


def read_back(whole: Sequence[Item], short: Sequence[Item]) -> float:
    """Mean over ids, categories and brands of the share of the whole history's mentions that the short one names too.

    What no item of the history has, such as a brand, is left out of the mean.
    """
    named = {kind: set(said) for kind, said in mentions(short).items()}
    shares = [sum(m in named[kind] for m in said) / len(said) for kind, said in mentions(whole).items() if said]
    return sum(shares) / len(shares)


def mentions(items: Sequence[Item]) -> Mapping[str, list[str]]:
    """Every id, category and brand, as often as it is said."""
    return {
        "ids": [i.item_id for i in items],
        "categories": [c for i in items for c in i.categories],
        "brands": [i.brand for i in items if i.brand],
    }
