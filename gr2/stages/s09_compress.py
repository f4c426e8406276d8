"""Stage 9: the context compressor, a short context in the place of a long one.

Left out unless the config has [compress.fit]: then the folder is empty. A policy that says which events to keep is
trained by group-relative policy gradient (GRPO): of each training slate's history several short contexts are drawn, the
ranker re-ranks the slate with each in one pass, and what that is worth (P2 §5's reward) less the group's mean moves the
policy. The ranker is that of 08_rl and stays as it is. Then the history of every slate is compressed once and kept by
its content.

Reads: 01_corpus, 02_sids, 05_traces, 08_rl. Writes: compressor.safetensors, compressor.json, contexts.parquet,
metrics.jsonl; nothing where it is left out.
Source: P2 §5; an extractive compressor and the ranker as its judge are ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor

from gr2.artifacts import Corpus, SemanticIds, Slates
from gr2.compress.context import Compressor, Limits, with_whole_history
from gr2.compress.judge import Judge, llm_judge, ranker_judge
from gr2.compress.policy import Catalogue, Scorer, draw, features, log_prob
from gr2.compress.reward import Compression, compression_reward, read_back
from gr2.errors import UserError
from gr2.lm.batches import epoch_picks
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.train import FitConfig, fit
from gr2.progress import track
from gr2.record import StageFolder, read_json, reading, stage_folder, write_json
from gr2.retrieve.popularity import popularity
from gr2.teach.endpoint import OpenAIConfig
from gr2.types import Item, Slate, Split

NAME = "09_compress"
READS = ("01_corpus", "02_sids", "05_traces", "08_rl")
RECENT = 20
"""Steps that the logged reward is a mean of."""
BEST, BEST_META = "best.safetensors", "best.json"


class Config(BaseModel):
    """What is kept, and how that is learned."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    newest: int = Field(120, ge=1)
    """Newest events of a history that are read: the whole context (ours)."""
    share: float = Field(0.2, gt=0, lt=1)
    """Share of the whole context that the short one stays under (P2: 20 %)."""
    at_least: int = Field(5, ge=1)
    """Events that are kept however short the history is (ours)."""
    alpha: float = Field(0.2, ge=0, le=1)
    """Weight of shortness in the reward; alike for all draws of a history (P2's alpha; value ours)."""
    draws: int = Field(8, ge=2)
    """Short contexts drawn a slate, G (ours)."""
    valid_slates: int = Field(256, ge=1)
    """Validation slates that choose the checkpoint (ours)."""
    judge: OpenAIConfig | None = None
    """A language model that judges in the place of the ranker (P2); `slates` and `n` are not read. Left out: the
    ranker of 08_rl (ours)."""
    fit: FitConfig | None = None
    """Training, `batch_size` slates a step; left out, or without steps: no compressor is made."""

    @model_validator(mode="after")
    def judge_is_named(self) -> "Config":
        if self.judge and not (self.judge.base_url and self.judge.model):
            raise ValueError("judge needs base_url and model")
        return self


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """The policy, and who judges it."""

    compressor: Compressor
    judge: Judge
    items: Mapping[str, Item]
    config: Config

    def loss(self, slates: Sequence[Slate]) -> tuple[Tensor, float]:
        """-mean of advantage x log-probability over draws, and the mean reward.

        One update a draw, so the importance ratio is 1 and no clip is needed. An advantage is the reward less its
        group's mean and not divided by the deviation (Dr. GRPO), or the many groups that differ in preservation alone
        would teach as much as the few in which the target is won or lost.
        """
        kept = [self.compressor.limits.budget(len(s.history)) for s in slates]
        scores = [self.scores(s) for s in slates]
        drawn = [draw(scores_E, self.config.draws) for scores_E in scores]
        short = [
            s.showing(tuple(s.history[place] for place in sorted(order_E[:n].tolist())))
            for s, orders_GE, n in zip(slates, drawn, kept, strict=True)
            for order_E in orders_GE
        ]
        whole = [s for s in slates for _ in range(self.config.draws)]
        rewards_BG = torch.tensor([r.total for r in self.rewards(whole, short)]).view(len(slates), -1)
        logs_BG = torch.stack([log_prob(*drawn_of) for drawn_of in zip(scores, drawn, kept, strict=True)])
        advantages_BG = rewards_BG - rewards_BG.mean(-1, keepdim=True)
        return -(advantages_BG * logs_BG).mean(), rewards_BG.mean().item()

    def scores(self, slate: Slate) -> Tensor:
        """(E,) of its history."""
        c = self.compressor
        return c.scorer(features(c.catalogue, [c.row[i] for i in slate.history], c.limits.newest))

    def rewards(self, whole: Sequence[Slate], short: Sequence[Slate]) -> list[Compression]:
        """What each slate's short history earns."""
        items = self.items
        return [
            compression_reward(
                order=order,
                gains=w.gains,
                read=read_back([items[i] for i in w.history], [items[i] for i in s.history]),
                share=len(s.history) / len(w.history),
                alpha=self.config.alpha,
            )
            for w, s, order in zip(whole, short, self.judge(short), strict=True)
        ]


def train(lesson: Lesson, train: Sequence[Slate], valid: Sequence[Slate], seed: int, work: StageFolder) -> None:
    """Train the compressor's scorer in place, to the checkpoint with the highest mean reward on `valid`.

    All slates hold the history that is read. What leaves nothing to choose is not trained on; raises UserError where
    all are such.
    """
    config, compressor = lesson.config, lesson.compressor
    assert config.fit
    rows = [s for s in train if len(s.history) > compressor.limits.budget(len(s.history))]
    if not rows:
        raise UserError(
            f"no training slate has a history of more than {config.at_least} events: nothing can be left out of one; "
            "lower [compress] at_least, or leave [compress.fit] out"
        )
    fit_config, recent = config.fit, list[float]()

    def batch_of(step: int) -> list[Slate]:
        return [rows[i] for i in epoch_picks(len(rows), fit_config.batch_size, step, seed)]

    def loss_of(slates: list[Slate]) -> Tensor:
        loss, reward = lesson.loss(slates)
        recent.append(reward)
        return loss

    def evaluate() -> dict[str, float]:
        short = [s.showing(compressor.compress(s.history)) for s in valid]
        rewards = lesson.rewards(valid, short)
        reward = sum(r.total for r in rewards) / len(rewards)
        keep_best(compressor.scorer, reward, work.path)
        kept = sum(len(s.history) for s in short) / sum(len(s.history) for s in valid)
        drawn = recent[-RECENT:]
        return {"valid_reward": reward, "kept": kept, "reward": sum(drawn) / max(1, len(drawn))}

    fit(compressor.scorer, batch_of, loss_of, fit_config, work, phase="compress", seed=seed, evaluate=evaluate)
    with reading(work.path / BEST):
        compressor.scorer.load_state_dict(load_file(work.path / BEST))


def keep_best(scorer: Scorer, reward: float, folder: Path) -> None:
    """Keep the weights when no earlier ones earned as much."""
    if not (folder / BEST_META).exists() or reward > read_json(folder / BEST_META)["reward"]:
        save_file(scorer.state_dict(), folder / BEST)
        write_json(folder / BEST_META, {"reward": reward})


def untrained(ranker: Checkpoint, corpus: Corpus, config: Config) -> Compressor:
    """A policy that keeps any event as soon as another, over the ranker's own embeddings of the ids."""
    with torch.no_grad():
        spelled_NS = ranker.id_tokens.of([item.item_id for item in corpus.items])
        vectors_ND = ranker.model.get_input_embeddings()(spelled_NS.to(ranker.model.device)).flatten(1).cpu()
    return Compressor(
        scorer=Scorer(),
        catalogue=Catalogue.of(vectors_ND, torch.tensor(popularity(corpus))),
        row=corpus.row,
        limits=Limits(newest=config.newest, share=config.share, at_least=config.at_least),
        sids_digest=ranker.sids_digest,
    )


def compress_all(compressor: Compressor, slates: Sequence[Slate]) -> float:
    """Fill the cache; the share of events that is kept."""
    kept = [len(compressor.short(s.history)) for s in track(slates, "contexts")]
    return sum(kept) / sum(len(s.history) for s in slates)


def main(run: Path, config: Config, seed: int) -> None:
    key = {**config.model_dump(), "seed": seed}
    with stage_folder(run / NAME, key, {name: run / name for name in READS}) as work:
        if config.fit is None or not config.fit.steps:
            return
        corpus, ids = Corpus.load(run / READS[0]), SemanticIds.load(run / READS[1])
        slates, ranker = Slates.load(run / READS[2]), Checkpoint.load(run / READS[3], corpus, ids)
        items = ranker.renderer.items
        if config.judge:
            judge = llm_judge(items, config.judge, config.newest, seed)
        else:
            judge = ranker_judge(ranker, config.newest)
        of = {split: with_whole_history(slates.split(split), corpus, config.newest) for split in Split}
        torch.manual_seed(seed)
        lesson = Lesson(compressor=untrained(ranker, corpus, config), judge=judge, items=items, config=config)
        train(lesson, of[Split.TRAIN], of[Split.VALID][: config.valid_slates], seed, work)
        work.counts["kept"] = round(compress_all(lesson.compressor, [s for split in Split for s in of[split]]), 4)
        work.counts["contexts"] = len(lesson.compressor.cache)
        lesson.compressor.save(work.path)
        for name in (BEST, BEST_META):
            (work.path / name).unlink()
