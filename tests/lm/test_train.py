import pytest
import shop
import torch

from gr2.errors import UserError
from gr2.lm import train
from gr2.lm.loss import weighted_next_token
from gr2.lm.train import FitConfig, fit
from gr2.record import StageFolder, read_metrics

CONFIG = FitConfig(steps=8, batch_size=4, learning_rate=1e-2, dropout=0.1, warmup_steps=2)


def weights(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def batch_of(step: int) -> torch.Tensor:
    return torch.randint(5, 60, (4, 12), generator=torch.Generator().manual_seed(step))


def run(model, folder, evaluate=None) -> None:
    def loss_of(tokens):
        return weighted_next_token(model, tokens, torch.ones(tokens.shape))

    work = StageFolder(path=folder, resumed=False)
    fit(model, batch_of, loss_of, CONFIG, work, phase="p", seed=3, evaluate=evaluate, evaluations=4)


def test_resumed_equals_uninterrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SAVE_SECONDS", 0.0)  # a checkpoint after every step
    whole, broken, resumed = shop.checkpoint().model, shop.checkpoint().model, shop.checkpoint(seed=1).model
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    run(whole, tmp_path / "whole")
    calls = []

    def crash():
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        run(broken, tmp_path / "broken", crash)
    assert not torch.equal(weights(whole), weights(broken))
    run(resumed, tmp_path / "broken")  # other weights to begin with: all comes from the checkpoint
    assert torch.equal(weights(whole), weights(resumed))
    assert not list((tmp_path / "broken").glob("checkpoint*"))


def test_loss_falls_and_is_logged(tmp_path):
    model = shop.checkpoint().model
    batch = batch_of(0)
    config = FitConfig(steps=60, batch_size=4, learning_rate=1e-2, warmup_steps=5)
    work = StageFolder(path=tmp_path, resumed=False)
    fit(
        model,
        lambda step: batch,
        lambda t: weighted_next_token(model, t, torch.ones(t.shape)),
        config,
        work,
        phase="p",
        seed=0,
    )
    losses = [row["loss"] for row in read_metrics(tmp_path)]
    assert [row["step"] for row in read_metrics(tmp_path)] == [10, 20, 30, 40, 50, 60]
    assert losses[-1] < 0.5 * losses[0]


def test_a_loss_that_is_not_finite_is_a_user_error(tmp_path):
    model = shop.checkpoint().model
    with pytest.raises(UserError, match=r"\[p\] step 0: the loss is nan; lower learning_rate"):
        fit(
            model,
            batch_of,
            lambda t: weighted_next_token(model, t, torch.ones(t.shape)) * float("nan"),
            CONFIG,
            StageFolder(path=tmp_path, resumed=False),
            phase="p",
            seed=0,
        )


def test_weighted_loss_counts_only_weighted_tokens():
    model = shop.checkpoint().model
    tokens = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        logp = model(input_ids=tokens).logits[0].log_softmax(-1)
        expected = -(0.5 * logp[1, 7] + 2.0 * logp[2, 8]) / 2.5
        value = weighted_next_token(model, tokens, torch.tensor([[0.0, 0.0, 0.5, 2.0]]))
    assert value.item() == pytest.approx(expected.item(), abs=1e-5)


def test_dropout_leaves_no_trace():
    model = shop.checkpoint().model.train()
    tokens = torch.tensor([[5, 6, 7]])
    with train.dropout(model, 0.5):
        a, b = (model(input_ids=tokens).logits for _ in range(2))
        assert not torch.equal(a, b)
    a, b = (model(input_ids=tokens).logits for _ in range(2))
    assert torch.equal(a, b)
