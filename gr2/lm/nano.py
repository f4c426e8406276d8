"""The embedded default: a Qwen3-architecture model of about a million parameters, and its own BPE (ours)."""

from collections.abc import Iterable
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from gr2.prompt.render import CONTROL_TOKENS, END, PAD


class NanoConfig(BaseModel):
    """Shape of the nano model."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    width: int = Field(default=128, ge=1)
    """Hidden size (ours)."""
    layers: int = Field(default=4, ge=1)
    """Transformer layers (ours)."""
    head_width: int = Field(default=32, ge=2, multiple_of=2)
    """Size of an attention head, even; width / head_width heads (ours)."""
    feed: int = Field(default=384, ge=1)
    """Inner size of the feed-forward (ours)."""
    words: int = Field(default=1024, ge=256)
    """Size of the BPE vocabulary before id tokens; 256 are the bytes (ours)."""
    context: int = Field(default=2048, ge=1)
    """Longest sequence in tokens (ours)."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.head_width:
            raise ValueError(f"head_width = {self.head_width} must divide width = {self.width}")
        return self


def train_tokenizer(texts: Iterable[str], words: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most `words` entries, with the control tokens in it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=words, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)
    fast.add_tokens(list(CONTROL_TOKENS))
    fast.pad_token, fast.eos_token = PAD, END
    return fast


def new_model(config: NanoConfig, vocabulary: int, end: int, pad: int, seed: int) -> Qwen3ForCausalLM:
    """Random weights from `seed`; `end` and `pad` are token numbers."""
    torch.manual_seed(seed)
    heads = config.width // config.head_width
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocabulary,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            head_dim=config.head_width,
            intermediate_size=config.feed,
            tie_word_embeddings=True,
            max_position_embeddings=config.context,
            eos_token_id=end,
            bos_token_id=None,
            pad_token_id=pad,
        )
    )
