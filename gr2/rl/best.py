"""The checkpoint kept is the one that does best on validation slates, not the last."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_model, save_model
from transformers import TrainerCallback

from gr2.record import read_json, write_json


class KeepBest(TrainerCallback):
    """Evaluates before the first step, after every `every` steps and after the last, and keeps the best in `folder`.

    Of equals the later is kept. A run that goes on after a stop finds the same best again.
    """

    def __init__(self, model: Any, evaluate: Callable[[int], float], folder: Path, every: int) -> None:
        """`evaluate(step)` says how good the model is now; more is better."""
        self.model, self.evaluate, self.folder, self.every = model, evaluate, folder, every
        self.weights, self.note = folder / "model.safetensors", folder / "best.json"

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self.look(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self.look(state.global_step)

    def look(self, step: int) -> None:
        self.model.eval()
        value = self.evaluate(step)
        self.model.train()
        if value >= self.best()["value"]:
            self.folder.mkdir(exist_ok=True)
            save_model(self.model, str(self.weights))
            write_json(self.note, {"step": step, "value": value})

    def best(self) -> dict[str, float]:
        """Step and value of what is kept."""
        return read_json(self.note) if self.note.exists() else {"step": -1, "value": float("-inf")}

    def restore(self) -> int:
        """Put the best weights into the model; returns their step."""
        load_model(self.model, self.weights)
        return int(self.best()["step"])
