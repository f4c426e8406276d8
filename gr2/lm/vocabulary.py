"""The tokens of semantic ids: added to any tokenizer, and looked up as integers for constraint and scoring."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from tokenizers import AddedToken
from torch import Tensor

from gr2.artifacts import SemanticIds
from gr2.prompt.gaps import GAPS
from gr2.prompt.render import CONTROL_TOKENS, END
from gr2.sid import spelling


def grow(tokenizer: Any, ids: SemanticIds, *, markers: bool, gaps: bool = False) -> int:
    """Add the id and control tokens that the tokenizer lacks, and those of gaps if asked; returns how many were added.

    They are not `special`: decoding with `skip_special_tokens` would silently strip them.
    """
    wanted = [*CONTROL_TOKENS, *(GAPS if gaps else ()), *spelling.tokens(ids.codebook_sizes, markers=markers)]
    known = tokenizer.get_vocab()
    missing = [AddedToken(t, normalized=False, special=False) for t in wanted if t not in known]
    return tokenizer.add_tokens(missing)


def learn_words(tokenizer: Any, words: Sequence[str]) -> None:
    """Add words as tokens, with the space before them that is part of them. A small model spells a word of many pieces
    wrongly, and makes up others (docs/log.md)."""
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in words])


@dataclass(frozen=True, kw_only=True)
class IdTokens:
    """Token numbers of every item's spelled id."""

    item_ids: tuple[str, ...]
    spelled: Tensor
    """(N, S) token numbers; S = levels, plus 2 with markers."""
    end: int
    """Token number of the end of an answer."""

    @cached_property
    def row(self) -> dict[str, int]:
        return {item_id: i for i, item_id in enumerate(self.item_ids)}

    @cached_property
    def codes(self) -> list[int]:
        """All tokens that spell ids."""
        every: list[int] = self.spelled.unique().tolist()
        return every

    def of(self, items: Sequence[str]) -> Tensor:
        """(len(items), S) token numbers."""
        return self.spelled[[self.row[i] for i in items]]


def id_tokens(tokenizer: Any, ids: SemanticIds, *, markers: bool) -> IdTokens:
    """Raises ValueError when the tokenizer does not hold every id token as one token."""
    vocabulary = tokenizer.get_vocab()
    names = spelling.tokens(ids.codebook_sizes, markers=markers)
    if missing := [name for name in names if name not in vocabulary]:
        raise ValueError(f"the tokenizer lacks {missing[0]} and {len(missing) - 1} more; call grow first")
    rows = []
    for codes in ids.codes.tolist():
        row = [vocabulary[spelling.token(level, code)] for level, code in enumerate(codes)]
        rows.append([vocabulary[spelling.BEGIN], *row, vocabulary[spelling.END]] if markers else row)
    return IdTokens(item_ids=ids.item_ids, spelled=torch.tensor(rows), end=vocabulary[END])
