"""The mid-trained model as a retriever: the next item's id, written by a beam that the trie holds to ids that exist.

Log-probabilities are those of the whole vocabulary, so a beam's score is log P(id | history) of the model as it is
(P1's "Pre-rank (MTL)"). The history is read once and kept; each step reads one token a beam.

Shapes: B histories, W beams, S tokens an id, V vocabulary.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from gr2.lm.batches import chunks, pad_left
from gr2.lm.checkpoint import Checkpoint
from gr2.progress import track
from gr2.prompt.render import PAD
from gr2.sid.trie import Trie


def beam_items(
    checkpoint: Checkpoint,
    histories: Sequence[Sequence[str]],
    times: Sequence[Sequence[int]],
    width: int,
    *,
    batch_size: int = 64,
    label: str | None,
) -> list[list[str]]:
    """For each history of item ids (oldest first) at most `width` likely next items, the likeliest first. `times`:
    seconds of each history's events and of the next one, or nothing where they are unknown.

    A list is shorter than `width` only where the catalogue has fewer prefixes than that.
    """
    ids, number = checkpoint.id_tokens, checkpoint.tokenizer.convert_tokens_to_ids
    trie = Trie(ids.spelled.numpy())
    item_of = {tuple(spelled): item for item, spelled in zip(ids.item_ids, ids.spelled.tolist(), strict=True)}
    shown = checkpoint.renderer.history
    prompts = [
        checkpoint.history_tokens(items[-shown:], of[-shown - 1 :]) for items, of in zip(histories, times, strict=True)
    ]
    # Histories of like length are read together, so that little of a batch is padding.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found: dict[int, list[str]] = {}
    for picked in track(list(chunks(order, batch_size)), label):
        written, _ = beam(checkpoint.model, [prompts[i] for i in picked], trie, number(PAD), width)
        found |= {i: [item_of[tuple(row)] for row in rows] for i, rows in zip(picked, written.tolist(), strict=True)}
    return [found[i] for i in range(len(prompts))]


@torch.inference_mode()
def beam(
    model: torch.nn.Module, prompts: Sequence[Sequence[int]], trie: Trie, pad: int, width: int
) -> tuple[np.ndarray, Tensor]:
    """(B, W, S) token numbers of whole ids of `trie`, whose codes are token numbers, and their (B, W) log-probability.

    W is `width`, or less where there are fewer ids to go on with; best first.
    """
    device = next(model.parameters()).device
    inputs, mask = (t.to(device) for t in pad_left(prompts, pad))
    b, cache = len(prompts), DynamicCache()
    written, total = np.zeros((b, 1, 0), dtype=np.int64), torch.zeros(b, 1, device=device)
    for level in range(trie.depth):
        positions = mask.cumsum(1)[:, -inputs.shape[1] :] - 1
        logits = model(
            input_ids=inputs,
            attention_mask=mask,
            position_ids=positions.clamp_min(0),
            past_key_values=cache,
            logits_to_keep=1,
        ).logits[:, -1]
        w, v = written.shape[1], logits.shape[-1]
        allowed = torch.from_numpy(trie.mask(written.reshape(b * w, level), v)).view(b, w * v).to(device)
        steps = total[:, :, None] + logits.float().log_softmax(-1).view(b, w, v)
        kept = min(width, int(allowed.sum(1).min()))
        total, best = steps.view(b, w * v).masked_fill(~allowed, -torch.inf).topk(kept, dim=1)
        parents, tokens = best // v, best % v
        written = np.concatenate(
            [np.take_along_axis(written, parents.cpu().numpy()[:, :, None], axis=1), tokens.cpu().numpy()[:, :, None]],
            axis=2,
        )
        rows = (parents + w * torch.arange(b, device=device)[:, None]).flatten()
        cache.batch_select_indices(rows)
        inputs = tokens.view(-1, 1)
        mask = torch.cat([mask[rows], torch.ones_like(inputs)], dim=1)
    return written, total
