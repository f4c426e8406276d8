"""Traces from a language model behind an OpenAI-compatible endpoint: rejection and targeted sampling. (P1 §3, P2 §3)

The reply's explanation becomes the thought, its citations those that a student is taught, and it ends as the evidence
teacher's does: in the arrow and the candidate that it leads to, so that the choice is made in the thought (ours).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gr2.artifacts import Corpus
from gr2.prompt.reply import Reply, ReplyStatus, read_reply
from gr2.prompt.teacher import Asker, load_teacher_template
from gr2.teach.endpoint import OpenAIConfig, Sample
from gr2.teach.openai import Asked, Question, ask
from gr2.teach.rationale import ARROW, choice
from gr2.teach.sampling import bucket
from gr2.types import Slate, Trace

NO_REPLY = "no_reply"
"""Status of an attempt for which the endpoint had nothing."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What the teacher wrote of some slates; `replies` and `failures` are as long as the slates."""

    slates: tuple[Slate, ...]
    replies: tuple[tuple[Reply, ...], ...]
    """Attempts of each slate, in order."""
    failures: tuple[str, ...]
    """Why the endpoint gave a slate up; "" where it did not."""
    teacher: str
    """Names the model."""
    prompt: str
    """Digest of the template as it was used."""
    bill: dict[str, Any]
    """Requests, tokens and money."""


def draw(
    corpus: Corpus,
    slates: Sequence[Slate],
    config: OpenAIConfig,
    *,
    attempts: int,
    target_shown: bool,
    cited_history: int,
    seed: int,
) -> Tried:
    """Ask about `config.slates` of the slates, each until a reply puts its target first, at most `attempts` times.

    Unless `target_shown`, the target is only compared with what came out. Raises UserError when it had to stop early.
    """
    template = load_teacher_template(config.template, priming=config.priming, layout=config.layout)
    asker = Asker(template=template, items={i.item_id: i for i in corpus.items}, history=cited_history)
    drawn = [slates[i] for i in np.random.default_rng(seed).permutation(len(slates))[: config.slates]]

    def question(slate: Slate) -> Question:
        return Question(
            messages=asker.messages(slate, target_shown=target_shown),
            enough=lambda samples: any(is_hit(read(s, slate, cited_history), slate) for s in samples),
            at_most=attempts,
        )

    asked = ask(config, [question(slate) for slate in drawn], seed)
    return Tried(
        slates=tuple(drawn),
        replies=tuple(
            tuple(read(sample, slate, cited_history) for sample in samples)
            for slate, samples in zip(drawn, asked.samples, strict=True)
        ),
        failures=asked.failures,
        teacher=config.model,
        prompt=template.digest,
        bill=bill(asked),
    )


def traces_of(tried: Tried) -> tuple[list[Trace], Counter[str]]:
    """One trace a slate, kept at the first attempt that puts the target first, else refused at the last.

    Also counts why every refused attempt was refused, and how hard its slate was.
    """
    traces, refusals = [], Counter[str]()
    for slate, replies, failure in zip(tried.slates, tried.replies, tried.failures, strict=True):
        hits = [is_hit(reply, slate) for reply in replies]
        end = hits.index(True) if any(hits) else len(hits) - 1
        reasons = [_reason(reply, slate) for reply in replies[: end + 1]]
        if failure and not any(hits):
            reasons.append(_hard(NO_REPLY, slate))
        refusals.update(reasons[:-1] if any(hits) else reasons)
        last = replies[end] if replies else Reply(status=ReplyStatus.EMPTY)
        traces.append(
            Trace(
                slate_id=slate.slate_id,
                thought=thought_of(last),
                order=last.order,
                evidence=f"words of {tried.teacher}",
                attempt=max(end, 0),
                kept=any(hits),
                reason=f"{reasons[-1]}: {failure}" if failure and not any(hits) else reasons[-1],
                prompt=tried.prompt,
            )
        )
    return traces, refusals


def read(sample: Sample, slate: Slate, cited_history: int) -> Reply:
    """The reply about `slate`, of which the `cited_history` newest items were shown."""
    shown = min(cited_history, len(slate.history))
    return read_reply(sample.text, cut=sample.cut, k=len(slate.candidates), history=shown)


def is_hit(reply: Reply, slate: Slate) -> bool:
    """Whether the reply is whole and puts the target first."""
    return is_whole(reply) and reply.order[0] == slate.target


def is_whole(reply: Reply) -> bool:
    """Whether it is a ranking with its reasons."""
    return reply.status is ReplyStatus.VALID


def thought_of(reply: Reply) -> str:
    """The reasons and what they lead to: `... [h1] ... -> [c3]`; no ranking, no end."""
    reasons = reply.reasons.replace(ARROW, "→")
    if not is_whole(reply):
        return reasons
    return f"{reasons} {choice(reply.order)}"


def bill(asked: Asked) -> dict[str, Any]:
    """What was asked and what it cost, for the summary."""
    return {
        "requests": asked.requests,
        "from_cache": asked.cached,
        "tokens_in": asked.usage.tokens_in,
        "tokens_out": asked.usage.tokens_out,
        "cost": round(asked.cost, 6),
        "given_up": sum(map(bool, asked.failures)),
    }


def _reason(reply: Reply, slate: Slate) -> str:
    if not is_whole(reply):
        return _hard(reply.status, slate)
    return _hard(f"target ranked {reply.order.index(slate.target) + 1} of {len(reply.order)}", slate)


def _hard(verdict: str, slate: Slate) -> str:
    return f"{verdict}, incoming {bucket(slate)}"
