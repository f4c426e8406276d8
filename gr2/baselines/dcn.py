"""The legacy re-ranker DCN-v2 (`advice.dcn`), tuned as `tuning` says. (the grid is ours)"""

from itertools import product

from gr2.advice.dcn import Dcn
from gr2.advice.network import fit_network
from gr2.advice.sample import Sample
from gr2.baselines.tuning import Fitted, Method, Point

GRID = tuple({"crosses": crosses, "learning_rate": rate} for crosses, rate in product((1, 2, 3), (1e-3, 3e-3)))


def fit(train: Sample, point: Point, seed: int, stop: Sample | int) -> Fitted:
    """`stop` rounds, or until the loss of the slates in `stop` falls no more."""
    network = fit_network(lambda f, k: Dcn(f, point["crosses"]), train, point["learning_rate"], seed, stop)
    return Fitted(rounds=network.rounds, scores=network.scores)


METHOD = Method(name="dcn", grid=GRID, fit=fit)
