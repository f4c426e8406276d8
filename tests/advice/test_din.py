"""PRM that attends to the newest events."""

from dataclasses import replace

import numpy as np
import torch
from ranked import recall, sample

from gr2.advice.din import Din
from gr2.advice.network import fit_network
from gr2.advice.past import EVENTS, UNKNOWN, Past
from gr2.advice.prm import Prm
from gr2.advice.sample import Sample

KINDS, WIDTH = 8, 6


def remembered(n: int, seed: int) -> Sample:
    """The target has the text of the newest event; an older event, which is there in every second slate, has that of
    another candidate. The features say nothing."""
    rng = np.random.default_rng(seed)
    candidates = np.stack([rng.permutation(KINDS)[:5] for _ in range(n)])
    targets = rng.integers(5, size=n)
    events = np.full((n, EVENTS), -1)
    events[:, 0] = candidates[np.arange(n), targets]
    events[::2, 1] = candidates[np.arange(n), (targets + 1) % 5][::2]
    texts = torch.from_numpy(np.random.default_rng(7).normal(size=(KINDS, WIDTH)).astype(np.float32))
    past = Past(
        texts_ND=texts,
        candidates_SK=torch.from_numpy(candidates),
        events_SE=torch.from_numpy(events),
        ages_SE=torch.zeros(n, EVENTS, dtype=torch.int64),
    )
    return replace(sample(np.zeros((n, 5, 2)), targets), past=past)


def network() -> Din:
    torch.manual_seed(0)
    return Din(2, 5, WIDTH).eval()


def read(of: Sample) -> tuple[torch.Tensor, ...]:
    assert of.past
    return of.past.read()


def asked(din: Din, *past: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
    n, k = past[0].shape[:2]
    with torch.inference_mode():
        return din(torch.zeros(n, k, 2), torch.ones(n, k, dtype=torch.bool) if real is None else real, *past)


def test_learns_what_only_the_newest_event_says():
    train, stop, test = remembered(6000, 0), remembered(400, 1), remembered(400, 2)
    learned = fit_network(lambda f, k: Din(f, k, WIDTH), train, 4e-3, 0, stop)
    assert recall(test, learned.scores(test)) > 0.9
    blind = fit_network(lambda f, k: Prm(f, k, blocks=1), replace(train, past=None), 4e-3, 0, replace(stop, past=None))
    assert recall(test, blind.scores(replace(test, past=None))) < 0.3  # guessing: .2


def test_events_that_are_not_there_change_nothing():
    candidates, events, there, ages = read(remembered(6, 0))
    before = asked(network(), candidates, events, there, ages)
    other, aged = events.clone(), ages.clone()
    other[~there], aged[~there] = 9.0, UNKNOWN
    assert torch.allclose(asked(network(), candidates, other, there, aged), before, atol=1e-6)
    nobody = torch.zeros_like(there)
    assert torch.allclose(
        asked(network(), candidates, other, nobody, aged), asked(network(), candidates, events, nobody, ages), atol=1e-6
    )
    assert not torch.allclose(asked(network(), candidates, events, nobody, ages), before, atol=1e-2)


def test_no_candidate_sees_what_is_padded():
    candidates, *past = read(remembered(6, 0))
    real = torch.ones(6, 5, dtype=torch.bool)
    real[:, 4] = False
    padded = candidates.clone()
    padded[:, 4] = 5.0
    before, after = (asked(network(), c, *past, real=real) for c in (candidates, padded))
    assert torch.allclose(after[:, :4], before[:, :4], atol=1e-6)


def test_age_and_place_of_an_event_tell():
    candidates, events, there, ages = read(remembered(6, 0))
    before = asked(network(), candidates, events, there, ages)
    assert not torch.allclose(asked(network(), candidates, events, there, ages + 3), before, atol=1e-3)
    swapped = [x.clone() for x in (events, there)]
    for x in swapped:
        x[::2, [0, 1]] = x[::2, [1, 0]]
    assert not torch.allclose(asked(network(), candidates, *swapped, ages)[::2], before[::2], atol=1e-3)


def test_some_ages_are_hidden_while_it_learns():
    """Everything else stands still: the scores of slates whose ages are hidden are those of unknown ages."""
    din, past = network(), read(remembered(400, 0))
    *rest, ages = past
    for module in din.modules():
        module.training = module is din
    torch.manual_seed(0)
    learning = asked(din, *rest, ages)
    known, unknown = asked(network(), *rest, ages), asked(network(), *rest, torch.full_like(ages, UNKNOWN))
    hidden = (learning - unknown).abs().amax(1) < 1e-6
    assert 15 < hidden.sum() < 75  # a tenth of 400
    assert torch.allclose(learning[~hidden], known[~hidden], atol=1e-6)
