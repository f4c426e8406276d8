"""The legacy re-ranker PRM (`advice.prm`), tuned as `tuning` says. (the grid is ours)"""

from itertools import product

from gr2.advice.network import fit_network
from gr2.advice.prm import Prm
from gr2.advice.sample import Sample
from gr2.baselines.tuning import Fitted, Method, Point

GRID = tuple({"blocks": blocks, "learning_rate": rate} for blocks, rate in product((1, 2), (1e-3, 2e-3, 4e-3)))


def fit(train: Sample, point: Point, seed: int, stop: Sample | int) -> Fitted:
    """`stop` rounds, or until the loss of the slates in `stop` falls no more."""
    network = fit_network(lambda f, k: Prm(f, k, point["blocks"]), train, point["learning_rate"], seed, stop)
    return Fitted(rounds=network.rounds, scores=network.scores)


METHOD = Method(name="prm", grid=GRID, fit=fit)
