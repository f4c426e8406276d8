"""A language model with all that it needs to be asked: tokenizer, id tokens, template. Loading refuses foreign ids."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from gr2.artifacts import CHECKPOINT, Corpus, SemanticIds, check_same_catalogue
from gr2.compress import context
from gr2.compress.context import Compressor
from gr2.device import home
from gr2.errors import UserError
from gr2.lm import feature_reader, item_head
from gr2.lm.vocabulary import IdTokens, id_tokens
from gr2.prompt.gaps import gaps_told
from gr2.prompt.render import HISTORY, THINK, Renderer, load_template
from gr2.record import read_json, reading, write_json

VOICES = ("words", "advice", "items", "anyone")
"""What is heard about a candidate (`lm.rank`); a Checkpoint has a weight for each."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model that speaks semantic ids. Written by s03_midtrain, s06_sft, s08_rl and s10_direct."""

    model: Any
    tokenizer: Any
    id_tokens: IdTokens
    renderer: Renderer
    sids_digest: str
    words: float = 1.0
    """Weight of the log-probability of an id, or of the score of a model that reads features. With those below, from
    s10_direct on, such that scores are log-odds."""
    advice: float = 0.0
    """Weight of the slates' advice, likewise; 0 before."""
    items: float = 0.0
    """Weight of the item head's scores, likewise."""
    anyone: float = 0.0
    """Weight of what the item head says of anyone, whatever the history."""
    compressor: Compressor | None = None
    """What makes the contexts that its prompts show, where the run made one; from s10_direct on."""

    @property
    def voices(self) -> dict[str, Any]:
        """The weights of VOICES."""
        return {name: getattr(self, name) for name in VOICES}

    def history_tokens(self, items: Sequence[str], times: Sequence[int] = ()) -> list[int]:
        """A history of these item ids and nothing else, as mid-training and prompts begin. `times`: seconds of each
        item and of what comes next, where known; a model that reads gaps has one behind the last item."""
        number: Any = self.tokenizer.convert_tokens_to_ids
        spelled = self.id_tokens.of(items).tolist()
        if self.renderer.gaps:
            gaps = gaps_told(times, len(items))
            spelled = [[number(gap), *tokens] for gap, tokens in zip(gaps, [*spelled, []], strict=True)]
        return [number(HISTORY), *(token for tokens in spelled for token in tokens)]

    @property
    def item_length(self) -> int:
        """Tokens of one history item, its gap included."""
        return self.id_tokens.spelled.shape[1] + self.renderer.gaps

    def with_model(self, model: Any) -> "Checkpoint":
        return replace(self, model=model)

    def alone(self) -> "Checkpoint":
        """Its prompts show no advice from now on."""
        return replace(self, renderer=replace(self.renderer, advised=False))

    def with_compressor(self, compressor: Compressor) -> "Checkpoint":
        """Its prompts show short contexts from now on."""
        return replace(self, compressor=compressor, renderer=replace(self.renderer, short=compressor.short))

    def save(self, folder: Path) -> None:
        """Weights as safetensors, the tokenizer, gr2.json with what they were trained for, and the compressor with the
        contexts that it has made."""
        with feature_reader.apart(self.model) as reader:
            item_head.save(self.model, folder)
        if reader is not None:
            feature_reader.save(reader, folder)
        self.tokenizer.save_pretrained(folder)
        write_json(
            folder / CHECKPOINT,
            {
                "sids_digest": self.sids_digest,
                "template": self.renderer.template.name,
                "template_digest": self.renderer.template.digest,
                "markers": self.renderer.markers,
                "history": self.renderer.history,
                "advised": self.renderer.advised,
                "gaps": self.renderer.gaps,
                **self.voices,
            },
        )
        if self.compressor:
            self.compressor.save(folder)

    @classmethod
    def load(cls, folder: Path, corpus: Corpus, ids: SemanticIds) -> "Checkpoint":
        """Raises UserError when the checkpoint is spoilt, or was trained with other ids or another template."""
        meta = read_json(folder / CHECKPOINT)
        if meta["sids_digest"] != ids.digest:
            raise UserError(
                f"{folder}: trained with other semantic ids ({meta['sids_digest']}, not {ids.digest}); "
                "train it again, or bring back the 02_sids it was made with"
            )
        template = load_template(meta["template"])
        if template.digest != meta["template_digest"]:
            raise UserError(f"{folder}: template {template.name} has changed since it was trained; train it again")
        with reading(folder):
            tokenizer = AutoTokenizer.from_pretrained(folder)
        with reading(folder / "model.safetensors"):
            model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
        checkpoint = assemble(
            model,
            tokenizer,
            corpus,
            ids,
            template=meta["template"],
            markers=meta["markers"],
            history=meta["history"],
            gaps=meta.get("gaps", False),
        )
        think: Any = tokenizer.convert_tokens_to_ids(THINK)
        item_head.load_into(model, folder, checkpoint.id_tokens.spelled, think)
        feature_reader.load_into(model, folder)
        model.to(home())
        checkpoint = replace(checkpoint, **{name: meta[name] for name in VOICES if name in meta})
        if not meta["advised"]:
            checkpoint = checkpoint.alone()
        if (folder / context.META).exists():
            return checkpoint.with_compressor(Compressor.load(folder, corpus, ids))
        return checkpoint


def is_checkpoint(folder: Path) -> bool:
    """Whether a model lies there; a stage that is left out leaves its folder without one."""
    return (folder / CHECKPOINT).exists()


def assemble(
    model: Any,
    tokenizer: Any,
    corpus: Corpus,
    ids: SemanticIds,
    *,
    template: str,
    markers: bool,
    history: int,
    gaps: bool = False,
) -> Checkpoint:
    """Put the parts together; the tokenizer must already hold the id tokens."""
    check_same_catalogue(ids, corpus.items, Path("02_sids"))
    return Checkpoint(
        model=model,
        tokenizer=tokenizer,
        id_tokens=id_tokens(tokenizer, ids, markers=markers),
        renderer=Renderer(
            template=load_template(template),
            items={item.item_id: item for item in corpus.items},
            ids=ids.of,
            markers=markers,
            history=history,
            gaps=gaps,
        ),
        sids_digest=ids.digest,
    )
