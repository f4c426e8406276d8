"""The mid-trained model's own likelihood behind a category thought: it says which kind comes next, then which item.

OneRec-Think's kind of baseline, thinking ("the user is likely to buy from Beauty > Hair Care"). Mid-training teaches no
thoughts, so this one is in the words of its captions, which end in categories, and held to the category paths of the
catalogue. It is written greedily where a thought stands in a prompt; the candidates' ids are scored behind it. Nothing
is trained. (the form of the thought is OneRec-Think's, its words and the hold are ours)
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from torch import Tensor
from transformers import PrefixConstrainedLogitsProcessor

from gr2.lm.batches import chunks
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.generate import greedy, prompt_tokens
from gr2.lm.rank import orders_behind
from gr2.progress import track
from gr2.prompt.render import END, END_THINK
from gr2.sid.spelling import defuse
from gr2.types import Item, Ranking, Slate

LEAD = ", categories: "
"""What stands before the categories in a caption (types.Item.text)."""
LONGEST = 48
"""Tokens of a thought at most."""
Next = Mapping[tuple[int, ...], list[int]]
"""What has been written -> the tokens that may follow."""


def rank_by_category_thought(
    checkpoint: Checkpoint, slates: Sequence[Slate], *, batch_size: int, label: str | None
) -> list[Ranking]:
    """Candidates by log P(id | prompt, the model's category thought), ties in incoming order. All slates of a batch
    have one K. The thought stands in `Ranking.thought`."""
    tokenizer = checkpoint.tokenizer
    stop, close = tokenizer.convert_tokens_to_ids([END, END_THINK])
    texts = [LEAD + path for path in category_paths(checkpoint.renderer.items.values())]
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    allowed = continuations([[*row, stop] for row in encoded] or [[stop]])
    rankings = []
    for part in track(list(chunks(slates, batch_size)), label):
        prompts = prompt_tokens(checkpoint, part, think=True)
        thoughts = write_thoughts(checkpoint, prompts, allowed, stop)
        behind = [[*prompt, *thought, close] for prompt, thought in zip(prompts, thoughts, strict=True)]
        orders = orders_behind(checkpoint, behind, part, batch_size)
        rankings += [
            Ranking(slate_id=slate.slate_id, order=order, thought=text.removeprefix(LEAD))
            for slate, order, text in zip(part, orders, tokenizer.batch_decode(thoughts), strict=True)
        ]
    return rankings


def category_paths(items: Iterable[Item]) -> list[str]:
    """The distinct category paths as captions write them, sorted."""
    return sorted({defuse(" > ".join(item.categories)) for item in items if item.categories})


def continuations(rows: Iterable[Sequence[int]]) -> Next:
    """Every prefix of the rows -> the tokens with which one of them goes on, sorted."""
    following: dict[tuple[int, ...], set[int]] = {}
    for row in rows:
        for at, token in enumerate(row):
            following.setdefault(tuple(row[:at]), set()).add(token)
    return {prefix: sorted(tokens) for prefix, tokens in following.items()}


def write_thoughts(
    checkpoint: Checkpoint, prompts: Sequence[Sequence[int]], allowed: Next, stop: int
) -> list[list[int]]:
    """The likeliest allowed token after the other, until `stop` (which ends a caption too), without it."""
    start = max(map(len, prompts))

    def may_follow(_: int, row: Tensor) -> list[int]:
        return allowed.get(tuple(row[start:].tolist()), [stop])

    hold = PrefixConstrainedLogitsProcessor(may_follow, num_beams=1)
    written = greedy(checkpoint, prompts, longest=LONGEST, stops=[stop], hold=hold)
    return [list(takewhile(lambda token: token != stop, row)) for row in written.tolist()]
