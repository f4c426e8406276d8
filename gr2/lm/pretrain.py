"""The small base that ships with gr2: the nano model, pretrained on made-up shops (ours).

    python -m gr2.lm.pretrain FOLDER

trains it anew (resumable; about 20 minutes on one CPU core) and writes nano.safetensors and record.json, which ship in
gr2/lm/base. A run starts from it, as a larger one starts from a pretrained LLM, and only has to adapt.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from gr2.errors import UserError
from gr2.lm.alignment import Marks, Row
from gr2.lm.batches import pad_right
from gr2.lm.loss import weighted_next_token
from gr2.lm.memory import keep_freed_memory
from gr2.lm.nano import NanoConfig, new_model
from gr2.lm.shops import Shops
from gr2.lm.train import FitConfig, fit
from gr2.prompt.render import ADVICE, CONTROL_TOKENS, END, PAD
from gr2.record import StageFolder, stage_folder
from gr2.sid.spelling import tokens

WEIGHTS = "nano.safetensors"
EMBEDDINGS, NAMES = "token_embeddings", "tokens"
CODEBOOK_SIZES = (64, 64, 64, 64)
WORDS = 64
KNOWN = tuple(token for token in CONTROL_TOKENS if token != ADVICE)
"""Control tokens that made-up shops use; all others are new to a user's run, as its words are."""
FIT = FitConfig(steps=4000, batch_size=32, learning_rate=5e-3, weight_decay=0.01, warmup_steps=100)
STOP = 1300
"""Steps that are made of them: look-ups are learned between step 900 and 1,000, mid-training does the rest."""
EMBEDDING_SCALE = 0.05
"""Standard deviation of the embeddings at the start."""
TRIED_ROWS = 256
"""Rows of shops never trained on that are looked at while training."""


def pretrain(config: FitConfig, stop: int, shape: NanoConfig, seed: int, work: StageFolder) -> Any:
    """A nano model trained on made-up shops for `stop` of the steps; progress, checkpoints and metrics go to `work`."""
    names = vocabulary()
    number = {name: i for i, name in enumerate(names)}
    shops = Shops(
        marks=Marks.of(lambda token: number.get(token, number[PAD])),  # rows do not hold the one that is not KNOWN
        codes=np.array([number[t] for t in tokens(CODEBOOK_SIZES, markers=False)]).reshape(len(CODEBOOK_SIZES), -1),
        words=len(names) + np.arange(WORDS),
    )
    model: Any = new_model(shape, len(names) + WORDS, number[END], number[PAD], seed)
    with torch.no_grad():
        embeddings = model.get_input_embeddings().weight
        embeddings.copy_(torch.randn(embeddings.shape) * EMBEDDING_SCALE)

    def batch_of(step: int) -> list[Row]:
        rng = np.random.default_rng((seed + 1, step))
        return [shops.row(rng) for _ in range(config.batch_size)]

    def loss_of(rows: Sequence[Row]) -> Tensor:
        weights = pad_right([row.counts for row in rows], 0, torch.float32)
        return weighted_next_token(model, pad_right([row.tokens for row in rows], number[PAD]), weights)

    rng = np.random.default_rng((seed, 1, 1))
    unseen = [shops.row(rng) for _ in range(TRIED_ROWS)]
    labels = {number[name] for name in names if name.startswith("<c_")}
    fit(
        model,
        batch_of,
        loss_of,
        config,
        work,
        phase="pretrain",
        seed=seed,
        evaluate=lambda: {"look_up": look_up_share(model, unseen, labels, number)},
        evaluations=40,
        stop=stop,
    )
    return model


def vocabulary() -> list[str]:
    """The tokens that the base knows by name: control tokens and id tokens; it knows no words."""
    return [*KNOWN, *tokens(CODEBOOK_SIZES, markers=False)]


@torch.inference_mode()
def look_up_share(model: Any, rows: Sequence[Row], labels: set[int], number: dict[str, int]) -> float:
    """Share of the labels in thoughts that the model gives to the ids before them; chance is about 1 / K."""
    batch = pad_right([row.tokens for row in rows], number[PAD])
    guesses = model(input_ids=batch).logits.argmax(-1)
    hits = [
        guesses[b, at - 1].item() == token
        for b, row in enumerate(rows)
        for at, token in enumerate(row.tokens[: row.tokens.index(number["</think>"])])
        if row.counts[at] and token in labels
    ]
    return sum(hits) / len(hits)


def save(model: Any, folder: Path) -> None:
    """Half-precision weights; the embeddings of named tokens only."""
    names = vocabulary()
    tensors = {n: p.detach().half().contiguous() for n, p in model.named_parameters() if "embed_tokens" not in n}
    tensors[EMBEDDINGS] = model.get_input_embeddings().weight.detach()[: len(names)].half().contiguous()
    save_file(tensors, folder / WEIGHTS, metadata={NAMES: " ".join(names)})


def start_from_base(model: Any, tokenizer: Any, seed: int) -> None:
    """Give a nano model of the default shape the base's weights, in place. Tokens that the base does not know get
    random embeddings of the usual size. Raises UserError for another shape."""
    with safe_open(str(files("gr2.lm") / "base" / WEIGHTS), "pt") as file:
        names = file.metadata()[NAMES].split()
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no dict)
    known = tensors.pop(EMBEDDINGS)
    own = {n: p for n, p in model.named_parameters() if "embed_tokens" not in n}
    if {n: p.shape for n, p in own.items()} != {n: t.shape for n, t in tensors.items()}:
        raise UserError("[midtrain] nano: the base that ships with gr2 has another shape; set base = false")
    number = tokenizer.get_vocab()
    embeddings = model.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])
        embeddings.normal_(std=known.std().item(), generator=generator)
        for name, embedding in zip(names, known, strict=True):
            if name in number:
                embeddings[number[name]] = embedding


def main(folder: Path, seed: int = 0) -> None:
    """Train the base and write it to FOLDER."""
    with stage_folder(folder, {**FIT.model_dump(), "stop": STOP, "seed": seed}, {}) as work:
        save(pretrain(FIT, STOP, NanoConfig(), seed, work), work.path)


if __name__ == "__main__":
    keep_freed_memory()
    torch.set_num_threads(1)  # sums in another order would give other weights on another number of cores
    typer.run(main)
