"""A tiny Llama and a tiny Qwen3 with random weights, and tokenizers of their own, saved as pretrained models are."""

from pathlib import Path

import shop
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from gr2.lm.pretrained import with_single_digits

EOS = "<|endoftext|>"
UNUSED = 8
"""Rows of the embeddings that no token has, as Qwen3 has them."""
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def save_llama(folder: Path, *, tied: bool = True) -> Path:
    """Two query heads a key head, as in SmolLM2, and every digit a word of its own."""
    tokenizer = with_single_digits(_tokenizer())
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer) + UNUSED, tie_word_embeddings=tied, **SIZES))
    return _save(folder, model, tokenizer)


def save_qwen3(folder: Path, layers: int = 2) -> Path:
    """Its tokenizer knows <think> and </think> already, as words of a chat, and has no token for a beginning."""
    tokenizer = _tokenizer()
    tokenizer.bos_token = None
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in ("<think>", "</think>")])
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            **{**SIZES, "num_hidden_layers": layers},
            vocab_size=len(tokenizer) + UNUSED,
            tie_word_embeddings=True,
            head_dim=8,
        )
    )
    return _save(folder, model, tokenizer)


def _tokenizer() -> PreTrainedTokenizerFast:
    """Of 300 words."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    bpe.train_from_iterator([item.text for item in shop.items()], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=EOS, eos_token=EOS, pad_token=EOS)


def _save(folder: Path, model: LlamaForCausalLM | Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
