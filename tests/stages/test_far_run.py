"""Language models on another device than the rest, as on a machine with a GPU: every stage runs, from a tiny Qwen3, and
what is said there is what is said here."""

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shop
import small_llm
import torch
from far import FAR, a_far_device
from test_pretrained_run import FIT, tiny
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3ForCausalLM

from gr2.artifacts import Corpus, SemanticIds, Slates
from gr2.distill.listwise import distill, harm
from gr2.distill.opd import written_logprobs
from gr2.distill.students import Run, make_students
from gr2.lm.batches import pad_left, pad_right
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.generate import Budget
from gr2.lm.rank import rank_by_thinking, rank_by_writing, rank_in_one_pass, voices_at_once
from gr2.lm.train import FitConfig
from gr2.record import RECORD, StageFolder, is_complete, read_json
from gr2.retrieve.beam import beam_items
from gr2.rl.sample import sample
from gr2.rl.shared_prefix import completion_log_probs
from gr2.run import CONFIG, STAGES, folder_of, kinds, load_config, run_stages
from gr2.types import Split

OF_MODELS = ("s03_midtrain", "s06_sft", "s07_opd", "s08_rl", "s09_compress", "s10_direct", "s13_evaluate")
LEARNING = {**FIT, "learning_rate": 1e-3}
MORE = {
    "opd": {"teacher": "itself", "rollouts": 2, "cold_steps": 1, "fit": LEARNING},
    "compress": {"at_least": 1, "newest": 20, "draws": 2, "valid_slates": 4, "fit": LEARNING},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("home")
    config = tiny(home, str(small_llm.save_qwen3(home / "qwen3")))
    more = {name: kinds()[name].model_validate(table) for name, table in MORE.items()}
    direct = config.tables["direct"].model_copy(update={"features": True})
    config = replace(config, tables={**config.tables, **more, "direct": direct})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for stage in STAGES:
            with a_far_device() if stage in OF_MODELS else nullcontext():
                run_stages(home / "run", config, [stage], ())
    return home / "run"


def test_every_stage_is_complete(run):
    assert all(is_complete(run / folder_of(stage)) for stage in STAGES)
    assert (run / "07_opd" / "model.safetensors").exists()
    assert (run / "09_compress" / "compressor.safetensors").exists()


def test_a_smaller_qwen3_learns_from_the_larger_one_by_config_alone(run, tmp_path):
    """On policy from its RL checkpoint, in words; then from the direct model, rankings, both ways."""
    smaller = str(small_llm.save_qwen3(tmp_path / "smaller", layers=1))
    shutil.copytree(run, tmp_path / "second", ignore=shutil.ignore_patterns("07_opd", "08_rl", "09*", "1*"))
    config = load_config(tmp_path / "second" / CONFIG)
    start = {**config.tables["midtrain"].model_dump(), "pretrained": smaller}
    lesson = {"teacher": str(run / "08_rl"), "student": start, "rollouts": 2, "cold_steps": 1, "fit": LEARNING}
    config = replace(config, tables={**config.tables, "opd": kinds()["opd"].model_validate(lesson)})
    with a_far_device():
        run_stages(tmp_path / "second", config, ["s07_opd"], ())
        of = Run(run=run, out=tmp_path / "distilled")
        made = make_students(of, [smaller])
    assert list(made) == ["pruned-1", "small-smaller", "opd-smaller"]
    folders = [tmp_path / "second" / "07_opd", *made.values()]
    assert [AutoModelForCausalLM.from_pretrained(folder).config.num_hidden_layers for folder in folders] == [1] * 4
    rates = {read_json(folder / RECORD)["config"]["learning_rate"] for folder in made.values()}
    assert rates == {1e-4}  # the preset's [direct.fit]


def test_a_model_that_knew_think_reads_it_as_one_token_of_its_own(run):
    before, after = (AutoTokenizer.from_pretrained(folder) for folder in (run.parent / "qwen3", run / "10_direct"))
    assert type(AutoModelForCausalLM.from_pretrained(run / "10_direct")) is Qwen3ForCausalLM
    assert before.convert_tokens_to_ids("<think>") == after.convert_tokens_to_ids("<think>") == len(before) - 2
    assert after.tokenize("a<think>b") == ["a", "<think>", "b"]


def test_a_checkpoint_comes_to_life_there_whole_and_ranks_as_here(run):
    corpus, ids = Corpus.load(run / "01_corpus"), SemanticIds.load(run / "02_sids")
    slates = Slates.load(run / "10_direct").split(Split.TEST)[:6]
    here = Checkpoint.load(run / "10_direct", corpus, ids)
    expected = voices_at_once(here, slates).detach().numpy()
    with a_far_device():
        there = Checkpoint.load(run / "10_direct", corpus, ids)
        assert {p.device for p in there.model.parameters()} == {b.device for b in there.model.buffers()} == {FAR}
        assert there.model.lm_head.weight is there.model.get_input_embeddings().weight
        found = voices_at_once(there, slates).detach().cpu().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def rollouts(checkpoint):
    """Tokens drawn behind two prompts, three times each."""
    pad = checkpoint.tokenizer.pad_token_id
    return sample(checkpoint.model, [[5, 6, 7], [8]], 3, longest=6, temperature=1.0, stops=[9], pad=pad)


def chances(checkpoint):
    """Of two answers to each of two prompts, read in one row; and of the same, each read in its own."""
    model, pad = checkpoint.model, checkpoint.tokenizer.pad_token_id
    prompts, written = [[5, 6, 7], [8]], [[10, 11], [12], [13, 14], [15]]
    mask = pad_right([[1] * len(w) for w in written], 0)
    tensors = pad_left(prompts, pad)[0], torch.tensor([0, 0, 1, 1]), pad_right(written, pad), mask
    logps, _ = completion_log_probs(model, *(t.to(model.device) for t in tensors), pad=pad, temperature=1.0)
    alone = written_logprobs(model, [prompts[0], prompts[0], prompts[1], prompts[1]], written)
    return torch.stack([logps, alone]).detach().cpu().numpy()


def next_items(checkpoint):
    histories = [s.history for s in shop.slates(2, Split.TEST)]
    return beam_items(checkpoint, histories, [() for _ in histories], 4, label=None)


SLATES = shop.slates(4, Split.TEST)
ASKED = {
    "at once": lambda c: rank_in_one_pass(c, SLATES, batch_size=4, label=None),
    "thinking": lambda c: rank_by_thinking(c, SLATES, budget=Budget(thought=6), label=None),
    "written": lambda c: rank_by_writing(c, SLATES, constrained=True, budget=Budget(thought=6), label=None),
    "rollouts": rollouts,
    "next items": next_items,
}


@pytest.mark.parametrize("what", ASKED)
def test_the_same_is_said_there_as_here(what):
    said = []
    for place in (nullcontext(torch.device("cpu")), a_far_device()):
        with place as device:
            checkpoint = replace(shop.checkpoint_with_head(), items=0.5, anyone=-0.2)
            checkpoint.model.to(device)
            torch.manual_seed(0)
            said.append(ASKED[what](checkpoint))
    assert said[0] == said[1]


def test_written_tokens_are_as_likely_there_as_here_in_one_row_and_alone():
    here = chances(shop.checkpoint())
    with a_far_device() as far:
        checkpoint = shop.checkpoint()
        checkpoint.model.to(far)
        there = chances(checkpoint)
    np.testing.assert_allclose(there, here, atol=1e-5)
    np.testing.assert_allclose(there[0], there[1], atol=1e-5)
    assert (there[0] != 0).sum() == 6


def test_a_student_learns_there(tmp_path):
    slates = shop.slates(60, Split.TRAIN)
    scores = torch.stack([4.0 * torch.tensor(s.gains) + torch.arange(shop.K) for s in slates]).float()
    config = FitConfig(steps=12, batch_size=16, learning_rate=1e-2, warmup_steps=2)
    with a_far_device() as far:
        student = shop.checkpoint()
        student.model.to(far)
        before = harm(student, slates, scores)
        distill(student, slates, scores, config, 0, StageFolder(path=tmp_path, resumed=False))
        assert harm(student, slates, scores) < 0.9 * before


MIXED = {
    "a sum": lambda far: far + torch.ones(2),
    "rows of a near table": lambda far: torch.eye(2)[far.long()],
    "near rows of a far table": lambda far: torch.nn.functional.embedding(torch.tensor([1]), far[:, None]),
    "numbers for NumPy": lambda far: far.numpy(),
    "chance from here": lambda far: torch.rand(2, generator=torch.Generator(), device=far.device),
}


@pytest.mark.parametrize("how", MIXED)
def test_what_a_gpu_would_refuse_is_refused(how):
    with a_far_device() as device:
        far = torch.tensor([0.0, 1.0], device=device)
        assert (far.device, far.sum().item(), far[[1]].tolist()) == (FAR, 1.0, [1.0])
        with pytest.raises((RuntimeError, TypeError), match=r"device|generator|numpy"):
            MIXED[how](far)
