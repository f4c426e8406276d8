"""A tiny Llama with random weights, and a tokenizer of its own, saved as any pretrained language model is."""

from pathlib import Path

import shop
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gr2.lm.pretrained import with_single_digits

EOS = "<|endoftext|>"
UNUSED = 8
"""Rows of the embeddings that no token has, as Qwen3 has them."""


def save(folder: Path, *, tied: bool = True) -> Path:
    """Two query heads a key head, as in SmolLM2."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    bpe.train_from_iterator([item.text for item in shop.items()], trainer)
    named = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=EOS, eos_token=EOS, pad_token=EOS)
    tokenizer = with_single_digits(named)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer) + UNUSED,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=tied,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
