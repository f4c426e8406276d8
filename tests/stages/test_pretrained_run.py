"""The preset of a pretrained language model, run for a step or two on the made-up shop from a tiny Llama."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shop
import small_llm
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from gr2.advice.advisor import cross_advised, rounded
from gr2.advice.features import Knowledge
from gr2.advice.sample import Sample
from gr2.artifacts import Corpus, Rankings, Scores, SemanticIds, Slates, load_text_vectors
from gr2.config import RunConfig, fill_config, overlaid, parse_config
from gr2.errors import UserError
from gr2.prompt.gaps import GAPS
from gr2.prompt.render import CONTROL_TOKENS, END
from gr2.record import is_complete, read_json
from gr2.run import CONFIG, STAGES, folder_of, kinds, load_config, run_stages
from gr2.serve.ranker import Bundle
from gr2.stages.s05_traces import ADVISOR_FOLDS
from gr2.types import Split

PRESET = Path(__file__).parents[2] / "configs" / "smollm2-135m.toml"
CODES = [6, 6]
FIT = {"steps": 2, "batch_size": 4, "warmup_steps": 1}


def tiny(home: Path, path: str) -> RunConfig:
    """The preset with the shop's files, the pretrained model's path and next to no steps."""
    shop.write(home)
    less = {
        "run": {"name": "tiny"},
        "corpus": {"items": str(home / "items.jsonl"), "events": str(home / "events.jsonl")},
        "sids": {"codebook_sizes": CODES, "text_model": "tfidf", "text_dims": 8, "engagement_dims": 4},
        "midtrain": {"pretrained": path, "k": 4, "fit": FIT},
        "slates": {"k": 4, "practice": 8, "folds": 2, "sasrec": {"dim": 16, "layers": 1, "epochs": 1}},
        "traces": {"folds": 2},
        "sft": {"valid_slates": 4, "fit": FIT},
        "rl": {"steps": 1, "prompts": 2, "rollouts": 2, "max_rounds": 1, "thought_tokens": 8, "valid_slates": 4},
        "direct": {"rollouts": 4, "thoughts": 8, "valid_slates": 4, "fit": FIT},
        "evaluate": {"free_answers": 4, "shuffled": 4, "plain_llm": path},
    }
    return fill_config(str(PRESET), "tiny", overlaid(parse_config(PRESET), less), kinds())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        run_stages(home / "run", tiny(home, str(small_llm.save_llama(home / "llama"))), STAGES, ())
    return home / "run"


def test_every_stage_is_complete(run):
    assert all(is_complete(run / folder_of(stage)) for stage in STAGES)
    assert load_config(run / CONFIG).tables["midtrain"].pretrained == str(run.parent / "llama")


@pytest.mark.parametrize("folder", ["03_midtrain", "06_sft", "08_rl", "10_direct", "11_bundle/model"])
def test_every_checkpoint_is_the_llama_with_our_tokens(run, folder):
    model = AutoModelForCausalLM.from_pretrained(run / folder)
    tokenizer = AutoTokenizer.from_pretrained(run / folder)
    assert type(model) is LlamaForCausalLM
    assert len(tokenizer) == model.config.vocab_size == 300 + len(CONTROL_TOKENS) + len(GAPS) + sum(CODES)
    assert tokenizer.eos_token == END
    assert tokenizer.tokenize(" 1990") == ["\u0120", "1", "9", "9", "0"]


def test_training_moves_it(run):
    before, after = (
        AutoModelForCausalLM.from_pretrained(run.parent / "llama").model.layers[0].mlp.up_proj.weight,
        AutoModelForCausalLM.from_pretrained(run / "03_midtrain").model.layers[0].mlp.up_proj.weight,
    )
    assert 0 < (after - before).abs().max() < 0.05


def test_the_plain_llm_is_a_row_of_the_table_on_the_same_slates(run):
    slates = Slates.load(run / "04_slates").split(Split.TEST)
    rankings = Rankings.load(run / "13_evaluate" / "plain_llm").rankings
    scores = Scores.load(run / "13_evaluate")
    assert [r.slate_id for r in rankings] == [s.slate_id for s in slates]
    assert all(sorted(r.order) == [0, 1, 2, 3] for r in rankings)
    assert scores.table["given_target"]["plain_llm"]["R@1"].n == len(slates)
    assert scores.best_legacy != "plain_llm"
    assert "plain_llm" not in read_json(run / "13_evaluate" / "valid.json")


def test_a_model_that_is_told_the_gaps_has_advice_of_a_sasrec_that_is_told_them(run):
    about = read_json(run / "11_bundle" / "advisor.json")
    assert (about["sequence"]["dim"], about["sequence"]["epochs"]) == (16, 20)
    bundle, slates = Bundle.load(run / "11_bundle"), Slates.load(run / "10_direct")
    test = slates.split(Split.TEST)
    served = bundle.advised([replace(s, advice=()) for s in test])
    np.testing.assert_allclose([s.advice for s in served], [s.advice for s in test], atol=1e-4)
    # Without times it is another, for the same slates.
    untold = bundle.advised([replace(s, advice=(), history_times=()) for s in test])
    assert not np.allclose([s.advice for s in untold], [s.advice for s in test], atol=1e-2)


def test_training_slates_do_not_hear_the_sasrec_that_knows_their_targets(run):
    corpus, ids = Corpus.load(run / "01_corpus"), SemanticIds.load(run / "02_sids")
    slates = Slates.load(run / "04_slates").split(Split.TRAIN)
    knowledge = rounded(Knowledge.of(corpus, 0, load_text_vectors(run / "02_sids"), ids.codes))
    counted = cross_advised(Sample.of(slates, knowledge), knowledge, 0, ADVISOR_FOLDS)
    kept = Slates.load(run / "10_direct").split(Split.TRAIN)
    np.testing.assert_allclose([s.advice for s in kept], [s.advice for s in counted], atol=1e-5)


def test_a_run_has_one_start():
    tables = {"midtrain": {"pretrained": "smollm2-135m"}}
    with pytest.raises(UserError, match=r"\[midtrain\] pretrained and base are two starts; set base = false"):
        fill_config("a.toml", "a", overlaid(parse_config(PRESET.with_name("nano.toml")), tables), kinds())
