"""Each training stage learns on the made-up shop what it is there for."""

import json
from collections import Counter
from dataclasses import replace
from math import log

import numpy as np
import pytest
import shop
import torch

from gr2.artifacts import Traces
from gr2.errors import UserError
from gr2.evaluate.propensity import Examination
from gr2.lm.alignment import Mix
from gr2.lm.train import FitConfig
from gr2.prompt.parse import parse
from gr2.record import read_json, read_metrics, write_json
from gr2.reward.conditional import conditional_reward
from gr2.reward.truth import Witness
from gr2.rl.advantage import group_advantages
from gr2.stages import s03_midtrain, s06_sft, s08_rl
from gr2.types import Split

USERS, HISTORY = 60, 5
MIDTRAIN = s03_midtrain.Config(
    nano=shop.NANO,
    base=False,
    history=HISTORY,
    k=shop.K,
    mix=Mix(preference=0.5, slate=0.5, caption=0, persona=0, language=0),
    fit=FitConfig(steps=200, batch_size=16, learning_rate=1e-2, warmup_steps=20),
)
SFT = s06_sft.Config(fit=FitConfig(steps=240, batch_size=16, learning_rate=5e-3, warmup_steps=10), valid_slates=50)
RL = s08_rl.Config(steps=2, prompts=2, rollouts=4, max_rounds=2, thought_tokens=24, save_steps=1)
SLATES = shop.advised(shop.all_slates(400, 50))


TRACES = Traces(traces=tuple(map(shop.oracle, SLATES.split(Split.TRAIN))))


@pytest.fixture(scope="module")
def midtrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("midtrain")
    return s03_midtrain.midtrain(shop.corpus(USERS), shop.semantic_ids(), MIDTRAIN, 0, shop.work(folder)), folder


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A model after SFT, mid-trained on slates until it could copy a label from a list, and the folder of SFT."""
    folder = tmp_path_factory.mktemp("sft")
    fit = MIDTRAIN.fit.model_copy(update={"steps": 600})
    slates = Mix(preference=0, slate=1, caption=0, persona=0, language=0)
    config = MIDTRAIN.model_copy(update={"mix": slates, "fit": fit})
    checkpoint = s03_midtrain.midtrain(
        shop.corpus(USERS), shop.semantic_ids(), config, 0, shop.work(tmp_path_factory.mktemp("slates"))
    )
    s06_sft.sft(checkpoint, SLATES, TRACES, SFT, 0, shop.work(folder))
    return checkpoint, folder


def weights(checkpoint) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in checkpoint.model.parameters()])


def test_nats_per_item_of_random_weights_by_hand():
    """A model that says every token is as likely as any other: two codes an item, each log V nats."""
    checkpoint = shop.checkpoint()
    with torch.no_grad():
        checkpoint.model.model.embed_tokens.weight.zero_()
    nats = s03_midtrain.validation_nats(checkpoint, shop.corpus())["nats_per_item"]
    assert nats == pytest.approx(2 * log(checkpoint.model.config.vocab_size), abs=1e-4)


def test_validation_events_are_of_people_who_have_some(monkeypatch):
    """One person in twenty has held-out events, and no more than four such people are asked."""
    corpus, some = shop.corpus(), []
    for n, timeline in enumerate(corpus.timelines):
        some.append(timeline if n % 20 == 1 else replace(timeline, splits=(Split.TRAIN,) * len(timeline.splits)))
    monkeypatch.setattr(s03_midtrain, "VALID_USERS", 4)
    assert len(s03_midtrain.validation_events(shop.checkpoint(), corpus)) in (3, 4)
    found = s03_midtrain.validation_events(shop.checkpoint(), replace(corpus, timelines=tuple(some)))
    assert len(found) == min(4, len(corpus.timelines[1::20]))


def test_midtraining_learns_the_taste(midtrained):
    """Knowing nothing costs log 24 nats, knowing the department log 4."""
    checkpoint, folder = midtrained
    nats = s03_midtrain.validation_nats(checkpoint, shop.corpus(USERS))["nats_per_item"]
    assert 0.9 * log(4) < nats < (log(4) + log(24)) / 2
    assert [row["step"] for row in read_metrics(folder) if row["phase"] == "midtrain_valid"] == [40, 80, 120, 160, 200]


def test_sft_learns_to_answer(tuned):
    checkpoint, folder = tuned
    losses = [row["loss"] for row in read_metrics(folder) if row["phase"] == "sft"]
    assert losses[-1] < 0.25 * losses[0]
    metrics = s06_sft.valid_metrics(checkpoint, SLATES.split(Split.VALID))
    assert metrics["valid_share"] > 0.9
    assert metrics["r1_direct"] > 0.9
    assert metrics["r1_thinking"] > 0.8  # guessing: .25; what is advised first is right in nine of ten


def test_sft_rows_learn_thought_and_answer_and_not_the_prompt():
    checkpoint, slate = shop.checkpoint(), SLATES.split(Split.TRAIN)[0]
    config = SFT.model_copy(update={"lambda_reasoning": 0.5, "lambda_answer": 1.0})
    rows = s06_sft.make_rows(checkpoint, SLATES, [shop.oracle(slate)], config)
    text = checkpoint.tokenizer.decode(rows.tokens[0])
    prompt = checkpoint.renderer.prompt(slate, think=True)
    spoken = {
        w: checkpoint.tokenizer.decode([t for t, v in zip(rows.tokens[0], rows.weights[0], strict=True) if v == w])
        for w in (0.0, 0.5, 1.0)
    }
    order = shop.oracle(slate).order
    a, b, c, d = (f"<c_{position + 1}>" for position in order)
    assert text == f"{prompt}likes shop -> {a}</think>{a}{b}{c}{d}<|end|>"
    assert spoken == {0.0: prompt, 0.5: "likes shop -> ", 1.0: f"{a}</think>{a}{b}{c}{d}<|end|>"}
    assert checkpoint.tokenizer.decode(rows.tokens[0][: rows.stems[0]]) == f"{prompt}likes shop -> "
    assert parse(text.removeprefix(prompt), shop.K).order == shop.oracle(slate).order


def test_sft_without_a_kept_trace_is_the_users_error(tmp_path):
    refused = Traces(traces=tuple(replace(t, kept=False) for t in TRACES.traces))
    with pytest.raises(UserError, match="no trace was kept; raise"):
        s06_sft.sft(shop.checkpoint(), SLATES, refused, SFT, 0, shop.work(tmp_path))


def test_a_citation_beyond_the_prompt_is_the_users_error():
    trace = replace(TRACES.traces[0], thought="likes [h4] -> [c1]")  # the shop's histories hold 3
    with pytest.raises(UserError, match=r"lower \[traces\] cited_history to 5, \[midtrain\] history"):
        s06_sft.make_rows(shop.checkpoint(), SLATES, [trace], SFT)


@pytest.fixture(scope="module")
def reinforced(tuned, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rl")
    checkpoint = shop.clone(tuned[0])
    s08_rl.rl(checkpoint, SLATES, RL, 0, shop.work(folder))
    return checkpoint, folder


def rollouts(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]


def test_advantages_weigh_what_the_clicks_of_their_slate_do(tuned, tmp_path):
    """Chances 1, 1/2, 1/4, 1/8, at most 4: clicks weigh 1, 2, 4 and 4, over their mean among all training slates."""
    examined = Examination(propensities=0.5 ** np.arange(shop.K), source="given")
    config = RL.model_copy(update={"click_clip": 4.0, "steps": 1, "prompts": 16, "temperature": 2.0, "valid_slates": 0})
    s08_rl.rl(shop.clone(tuned[0]), SLATES, config, 0, shop.work(tmp_path), examined)
    worth = np.array([1, 2, 4, 4])
    mean = worth[[s.target for s in SLATES.split(Split.TRAIN)]].mean()
    rows = rollouts(tmp_path)
    groups = torch.tensor([[row["reward"], row["advantage"]] for row in rows]).view(-1, 4, 2)
    of = [SLATES.by_id[row["slate_id"]].target for row in rows[::4]]
    assert len(set(of)) > 1
    for target, group in zip(of, groups, strict=True):
        plain = group_advantages(group[:, 0]) * worth[target] / mean
        assert group[:, 1].tolist() == pytest.approx(plain.tolist(), abs=1e-5)
    assert groups[..., 1].any()
    with pytest.raises(UserError, match=r"\[rl\] click_clip: no chances of places"):
        s08_rl.rl(shop.clone(tuned[0]), SLATES, config, 0, shop.work(tmp_path))


def test_every_rollout_is_kept_with_its_reward(reinforced, tuned):
    checkpoint, folder = reinforced
    rows = rollouts(folder)
    by_step = Counter(row["step"] for row in rows)
    assert by_step.keys() == {0, 1}
    assert all(n in (8, 16) for n in by_step.values())  # one or two rounds of 2 prompts x 4 rollouts
    for row in rows:
        answer = parse(row["text"].replace("<|pad|>", ""), shop.K)
        assert row["status"] == answer.status
        assert row["reward"] == conditional_reward(answer, SLATES.by_id[row["slate_id"]]).total
    for group in torch.tensor([[row["reward"], row["advantage"]] for row in rows]).view(-1, 4, 2):
        assert group[:, 1].tolist() == pytest.approx(group_advantages(group[:, 0]).tolist(), abs=1e-5)
    assert [(row["phase"], row["step"]) for row in read_metrics(folder)] == [
        ("rl_valid", 0),
        ("rl", 1),
        ("rl_valid", 2),
        ("rl", 2),
    ]
    assert not (folder / "trl").exists()
    before, after = (row["ndcg"] for row in read_metrics(folder) if row["phase"] == "rl_valid")
    assert torch.equal(weights(checkpoint), weights(tuned[0])) == (after < before)


def test_what_is_true_is_said_more_often_where_it_pays(tuned, tmp_path):
    """Everything in the shop is of the nineties. A model that was taught to say so or something else, at random, comes
    to say so, and does not where its ranking alone is paid."""
    rng, witness = np.random.default_rng(0), Witness.of(shop.corpus(USERS), tuned[0].renderer)
    traces = [
        replace(t, thought=t.thought.replace("shop", ("1980s", "1990s")[right]))
        for t, right in zip(TRACES.traces, rng.integers(2, size=len(TRACES.traces)), strict=True)
    ]
    checkpoint = shop.clone(tuned[0])
    s06_sft.sft(checkpoint, SLATES, Traces(traces=tuple(traces)), SFT, 0, shop.work(tmp_path / "sft"))
    at_end = {}
    for truth in (0.0, 1.0):
        config = RL.model_copy(
            update={"steps": 20, "prompts": 8, "rollouts": 8, "learning_rate": 1e-3, "valid_slates": 0, "truth": truth}
        )
        folder = tmp_path / str(truth)
        s08_rl.rl(shop.clone(checkpoint), SLATES, config, 0, shop.work(folder), witness=witness)
        said = [row["text"] for row in rollouts(folder) if row["step"] >= 15]
        at_end[truth] = np.mean(["1990s" in text for text in said])
    assert at_end[1.0] > 0.9
    assert at_end[0.0] < 0.8


def test_the_truest_is_kept_of_what_ranks_no_worse_and_thinks_truer_than_before(tuned, tmp_path):
    """Before, one slate of twenty was .2 better and one .1 worse: .005 in the mean, with a standard error of .011. One
    that was .1 better is as much, with an error of .0049. Five thoughts that were .4 less true are .1 with an error of
    .039, four .08 with one of .036; one that was truer outweighs one that was less so."""
    valid, start = SLATES.split(Split.VALID)[:20], tmp_path / "start.json"
    witness, work = Witness.of(shop.corpus(USERS), tuned[0].renderer), shop.work(tmp_path / "work")

    def value(step: int) -> float:
        return s08_rl.validate(tuned[0], valid, RL, work, witness, start, step)

    truth = value(0)
    row = read_metrics(work.path)[0]
    assert truth == row["truth"]
    own = read_json(start)
    assert np.mean(own["ndcg"]) == pytest.approx(row["ndcg"])
    assert np.mean(own["truth"]) == pytest.approx(truth)
    assert value(5) == -np.inf  # nothing is truer than before
    less = [-0.4] * 5
    cases = [
        ([0.2, -0.1], less, True),
        ([-0.1] * 20, less, True),
        ([0.1], less, False),
        ([0.1] * 20, less, False),
        ([], [-0.4] * 4, True),
        ([], [-0.4] * 4 + [0.3], False),
        ([], [-0.4, 0.4], False),
        ([], [0.4] * 5, False),
    ]
    for better, truer, kept in cases:
        before = {"ndcg": [*better, *[0.0] * (20 - len(better))], "truth": [*truer, *[0.0] * (20 - len(truer))]}
        write_json(start, {name: [v + d for v, d in zip(own[name], before[name], strict=True)] for name in own})
        assert value(5) == (truth if kept else -np.inf)
    assert s08_rl.validate(tuned[0], valid, RL, work, None, start, 5) == pytest.approx(row["ndcg"])


def test_a_line_of_rollouts_ends_where_it_was_ended_and_nowhere_else(tmp_path):
    """A model of bytes may write U+2028 or U+0085, which are line ends to str.splitlines."""
    lines = [json.dumps({"step": step, "text": "a\u2028b\u0085"}, ensure_ascii=False) + "\n" for step in (0, 1)]
    (tmp_path / "trl" / "checkpoint-1").mkdir(parents=True)
    (tmp_path / "trl" / "checkpoint-1" / "trainer_state.json").touch()
    (tmp_path / "rollouts.jsonl").write_text("".join(lines) + '{"step": 1, "te', encoding="utf-8")
    assert s08_rl.rewind(tmp_path / "trl", tmp_path / "rollouts.jsonl") == 1
    assert (tmp_path / "rollouts.jsonl").read_text(encoding="utf-8") == lines[0]


@pytest.mark.parametrize(("moment", "made_again"), [("on_step_end", [2]), ("on_train_end", [])])
def test_a_killed_rl_goes_on_and_ends_as_if_it_had_not_been(
    moment, made_again, reinforced, tuned, tmp_path, monkeypatch
):
    """Killed after the rollouts of the second step and before its checkpoint, or after its checkpoint."""
    reached = []

    def kill(self, args, state, control, **_):
        if state.global_step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(s08_rl.Advance, moment, kill)
        with pytest.raises(KeyboardInterrupt):
            s08_rl.rl(shop.clone(tuned[0]), SLATES, RL, 0, shop.work(tmp_path))
    assert rollouts(tmp_path) == rollouts(reinforced[1])
    (tmp_path / "trl" / "checkpoint-3").mkdir()  # half-written
    with (tmp_path / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 2, "te')
    checkpoint = shop.clone(tuned[0])
    monkeypatch.setattr(s08_rl.Advance, "on_step_end", lambda self, a, state, c, **_: reached.append(state.global_step))
    s08_rl.rl(checkpoint, SLATES, RL, 0, shop.work(tmp_path))
    assert reached == made_again
    assert rollouts(tmp_path) == rollouts(reinforced[1])
    assert torch.equal(weights(checkpoint), weights(reinforced[0]))
