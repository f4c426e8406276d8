"""The weights kept are the best on validation."""

from types import SimpleNamespace

import pytest
import torch

from gr2.rl.best import KeepBest

STATE = {step: SimpleNamespace(global_step=step, max_steps=7) for step in range(8)}


@pytest.mark.parametrize(("values", "kept"), [((1, 3, 2, 0), 3), ((5, 3, 2, 4), 0), ((1, 2, 2, 2), 7)])
def test_the_best_is_restored(values, kept, tmp_path):
    """Looks before step 1 and after steps 3, 6 and 7 of 7; of equals the later."""
    model, looked = torch.nn.Linear(1, 1), []

    def evaluate(step):
        assert not model.training
        looked.append(step)
        return values[len(looked) - 1]

    best = KeepBest(model, evaluate, tmp_path / "best", every=3)
    for step in range(8):
        torch.nn.init.constant_(model.weight, step)
        (best.on_step_end if step else best.on_train_begin)(None, STATE[step], None)
    assert looked == [0, 3, 6, 7]
    assert best.restore() == kept == model.weight.item()


def test_a_run_that_goes_on_does_not_look_before_its_first_step(tmp_path):
    best = KeepBest(torch.nn.Linear(1, 1), lambda step: 0.0, tmp_path / "best", every=3)
    best.on_train_begin(None, STATE[4], None)
    assert best.best()["step"] == -1
