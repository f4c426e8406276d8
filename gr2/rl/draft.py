"""What a rollout is likely to answer once its thought is closed (ours).

Fine-tuned models copy the order that a prompt shows, behind the candidate that their thought has come to: 97 to 99 % of
the answers of MovieLens, Beauty and Toys, to the last token. So an answer is guessed, and read in one pass (sample.py).
"""

from collections.abc import Sequence
from typing import Any

from gr2.prompt.render import END, END_THINK, LABELS
from gr2.rl.sample import Draft


def answer_draft(tokenizer: Any) -> Draft:
    """Behind a thought: the label that it wrote last, the others in the order in which the prompt has them last, the
    advised one or else the incoming one, and the end."""
    cue, end = (tokenizer.convert_tokens_to_ids(token) for token in (END_THINK, END))
    labels = frozenset(tokenizer.convert_tokens_to_ids(list(LABELS)))

    def guess(prompt: Sequence[int], written: Sequence[int]) -> list[int]:
        listed = list(dict.fromkeys(token for token in reversed(prompt) if token in labels))[::-1]
        chosen = next((token for token in reversed(written) if token in listed), None)
        return [*([chosen] if chosen is not None else []), *(t for t in listed if t != chosen), end]

    return Draft(cue, guess)
