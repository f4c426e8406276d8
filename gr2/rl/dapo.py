"""DAPO on TRL: its GRPOTrainer has clip-higher, the token-level loss and the neighbours' losses (objectives.py);
dynamic sampling is added here, and a group shares the reading of its prompt (sample.py, shared_prefix.py).

Dynamic sampling: a group whose rewards are all alike has no advantage and teaches nothing. Fresh prompts are
rolled out until every place of the batch holds a group that teaches, or `max_rounds` is reached; then what is
still empty is filled with idle groups (advantage 0).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from trl import GRPOTrainer
from trl.trainer.utils import pad

from gr2.lm.attend import can_attend
from gr2.rl.sample import Draft, sample
from gr2.rl.shared_prefix import completion_log_probs

Rollouts = dict[str, Tensor]
TOLERANCE = 1e-6


class DapoTrainer(GRPOTrainer):
    """GRPOTrainer with dynamic sampling. What follows is set after construction."""

    max_rounds = 3
    """1 switches dynamic sampling off."""

    weight_of: Callable[[dict[str, Any]], float] | None = None
    """What the advantages of a row of the data set are multiplied by, above 0; left out, 1."""

    credit: Callable[[int], Tensor] | None = None
    """Given the width of the completions, the (B, C) advantages that single tokens of the rollouts which the reward
    function saw last have beside those of the whole; left out, none."""

    draft: Draft | None = None
    """What rollouts are likely to write; it changes how fast they are written, not what. Left out, token by token."""

    on_scored: Callable[[Tensor], None] | None = None
    """Told the advantages of every round's rollouts, in the order in which the reward function saw them."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Rollouts:
        wanted = len(inputs)
        tokenizer: Any = self.processing_class
        group: Any = self.num_generations
        taught: list[Rollouts] = []
        for rounds in range(1, self.max_rounds + 1):
            rollouts = super()._generate_and_score_completions(inputs)
            if self.weight_of:
                rollouts["advantages"] *= rollouts["advantages"].new_tensor([self.weight_of(row) for row in inputs])
            if self.on_scored:
                self.on_scored(rollouts["advantages"])
            if self.credit:
                of_tokens = self.credit(rollouts["completion_ids"].shape[1]).to(rollouts["advantages"].device)
                rollouts["advantages"] = rollouts["advantages"][:, None] + of_tokens
            live = informative_rows(rollouts["advantages"], group)
            taught.append(take(rollouts, live))
            missing = wanted - sum(len(part["advantages"]) for part in taught)
            # Every rank must leave in the same round, or the others wait for it for ever.
            if self.accelerator.gather(torch.tensor([missing], device=self.accelerator.device)).max() <= 0:
                break
            inputs = self._fresh_inputs(wanted, rounds)
        self._metrics["train"]["dynamic_sampling/rounds"].append(rounds)
        self._metrics["train"]["dynamic_sampling/live_share"].append(live.float().mean().item())
        idle = take(rollouts, ~live)
        batch = take(concatenate([*taught, idle], tokenizer.pad_token_id), slice(0, wanted))
        batch["num_items_in_batch"] = self.accelerator.gather(batch["completion_mask"].sum()).sum()
        return batch

    def _generate_single_turn(
        self,
        prompt_ids: list[list[int]],
        images: Any,
        multimodal_fields: Any,
        num_generations: int,
        has_tool_images: bool = False,
    ) -> Any:
        """Every prompt read once a group."""
        if not self._shares():
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations)
        tokenizer: Any = self.processing_class
        longest: Any = self.max_completion_length
        completions = sample(
            self.model,
            prompt_ids[::num_generations],
            num_generations,
            longest=longest,
            temperature=self.temperature,
            stops=self.eos_token_ids,
            pad=tokenizer.pad_token_id,
            draft=self.draft,
        )
        return completions, None

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, *more: Any, **keys: Any
    ) -> Any:
        """TRL's log-probabilities and entropies, with every distinct prompt read once."""
        if not self._shares():
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *more, **keys
            )
        tokenizer: Any = self.processing_class
        prompts_UP, of_B = input_ids[:, :-logits_to_keep].unique(dim=0, return_inverse=True)
        completions_BC, mask_BC = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:]
        with self.accelerator.autocast():
            logps_BC, entropies_BC = completion_log_probs(
                model,
                prompts_UP,
                of_B,
                completions_BC,
                mask_BC,
                pad=tokenizer.pad_token_id,
                temperature=self.temperature,
            )
        return logps_BC, entropies_BC, None

    def _shares(self) -> bool:
        """TRL's own way is taken where the model is spread over devices, or its attention is not the plain one."""
        return self.model_wrapped is self.model and can_attend(self.model)

    def _fresh_inputs(self, rows: int, rounds: int) -> list[dict[str, Any]]:
        """Prompts outside the data loader's order; a function of seed, step, round and rank, so that runs repeat."""
        place = (self.args.seed, self.state.global_step, rounds, self.accelerator.process_index)
        group: Any = self.num_generations
        prompts: Any = self.train_dataset
        picks = np.random.default_rng(place).choice(len(prompts), size=rows // group)
        return [dict(prompts[int(i)]) for i in picks for _ in range(group)]


def informative_rows(advantages: Tensor, group: int) -> Tensor:
    """(B,) bool: rows of the groups (of `group` rows each) in which some advantage, of a rollout (B,) or of its tokens
    (B, C), is not 0."""
    return (advantages.reshape(len(advantages) // group, -1).abs().amax(1) > TOLERANCE).repeat_interleave(group)


def take(rollouts: Rollouts, rows: Tensor | slice) -> Rollouts:
    """These rows of every per-row tensor."""
    return {name: value[rows] if value.ndim else value for name, value in rollouts.items()}


def concatenate(parts: Sequence[Rollouts], pad_id: int) -> Rollouts:
    """Join along the rows: prompts padded on the left, completions on the right."""
    joined: Rollouts = {}
    for name, value in parts[0].items():
        if value.ndim == 0:
            joined[name] = value
        elif value.ndim == 1:
            joined[name] = torch.cat([part[name] for part in parts])
        else:
            rows = [row for part in parts for row in part[name]]
            side = "left" if name.startswith("prompt") else "right"
            joined[name] = pad(rows, padding_value=pad_id if name.endswith("_ids") else 0, padding_side=side)
    return joined
