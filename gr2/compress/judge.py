"""Who ranks a slate that shows a short context, so that it is known what the context is worth. (P2 §5)

The papers' judge is a language model. By default the run's own ranker judges (ours): it costs nothing, and it is who
will read the contexts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from gr2.lm.checkpoint import Checkpoint
from gr2.lm.rank import rank_in_one_pass
from gr2.prompt.teacher import Asker, load_teacher_template
from gr2.teach.endpoint import OpenAIConfig, Sample
from gr2.teach.llm import is_whole, read
from gr2.teach.openai import Question, ask
from gr2.types import Item, Slate

Judge = Callable[[Sequence[Slate]], list[tuple[int, ...]]]
"""Slates -> a ranking of each, of prompts that show all of the history given."""
TABLE = "compress.judge"
"""Of the config."""
TRIES = 2
"""Replies wanted of a language model until one is whole."""


def ranker_judge(ranker: Checkpoint, newest: int) -> Judge:
    """The ranker at once, in the precision in which it serves; it is shown up to `newest` events."""
    ranker = replace(ranker, renderer=replace(ranker.renderer, history=newest))

    def orders(slates: Sequence[Slate]) -> list[tuple[int, ...]]:
        with torch.autocast(ranker.model.device.type, enabled=False):
            ranked = rank_in_one_pass(ranker, slates, batch_size=64, label=None)
        return [r.order for r in ranked]

    return orders


def llm_judge(items: Mapping[str, Item], config: OpenAIConfig, newest: int, seed: int) -> Judge:
    """A language model that is asked to rank; where it gives no whole reply the incoming order stays. What was asked
    before comes from the cache, and the budget is that of all judging together. Judging raises UserError when it is
    spent or the endpoint is of no use any more."""
    template = load_teacher_template(config.template, priming=config.priming, layout=config.layout)
    asker = Asker(template=template, items=items, history=newest)
    left = config

    def orders(slates: Sequence[Slate]) -> list[tuple[int, ...]]:
        nonlocal left
        different = {(s.history, s.candidates): s for s in slates}
        asked = ask(left, [question(s) for s in different.values()], seed, table=TABLE, label=None)
        money = None if left.budget_cost is None else left.budget_cost - asked.cost
        left = left.model_copy(update={"budget_tokens": left.budget_tokens - asked.usage.tokens, "budget_cost": money})
        of = {
            what: order(slate, samples) for (what, slate), samples in zip(different.items(), asked.samples, strict=True)
        }
        return [of[s.history, s.candidates] for s in slates]

    def question(slate: Slate) -> Question:
        def enough(samples: Sequence[Sample]) -> bool:
            return any(is_whole(read(sample, slate, newest)) for sample in samples)

        return Question(messages=asker.messages(slate, target_shown=False), enough=enough, at_most=TRIES)

    def order(slate: Slate, samples: Sequence[Sample]) -> tuple[int, ...]:
        replies = [read(sample, slate, newest) for sample in samples]
        whole = [reply.order for reply in replies if is_whole(reply)]
        return whole[0] if whole else tuple(range(len(slate.candidates)))

    return orders
