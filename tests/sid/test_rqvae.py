import numpy as np
import pytest
import torch

from gr2.errors import UserError
from gr2.sid.assign import nearest_codes, reconstruct, unique_codes
from gr2.sid.report import reconstruction_errors
from gr2.sid.rqvae import RqVae, RqVaeConfig, _place, _reset, diversity, encode, info_nce, rqvae

SMALL = {"latent": 8, "hidden": 16, "batch_size": 32}
PLAIN = {"kmeans_init": False, "ema_decay": 0.0, "reset_dead": False}
RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(6, 5)) * 4
VECTORS = (CENTRES[np.arange(120) % 6] + RNG.normal(size=(120, 5)) * 0.3).astype(np.float32)
PAIRS = np.array([[i, i + 6] for i in range(114)])


def error(made, vectors=VECTORS):
    return reconstruction_errors(vectors, made.codes, made.codebooks, made.decode)[-1]


def fit(vectors=VECTORS, sizes=(6, 4), steps=60, pairs=PAIRS, **switches):
    return rqvae(vectors, sizes, seed=0, config=RqVaeConfig(**{**SMALL, "steps": steps, **switches}), pairs=pairs)


def test_learns_clusters():
    made = fit(steps=300)
    assert error(made) < 0.1
    assert [book.shape for book in made.codebooks] == [(6, 8), (4, 8)]
    by_cluster = [set(made.codes[np.arange(120) % 6 == c, 0].tolist()) for c in range(6)]
    assert sum(map(len, by_cluster)) <= 8


@pytest.mark.parametrize(
    "switches",
    [
        PLAIN,
        {**PLAIN, "kmeans_init": True},
        {**PLAIN, "ema_decay": 0.9},
        {**PLAIN, "reset_dead": True},
        {**PLAIN, "diversity_weight": 0.1},
        {**PLAIN, "contrastive_weight": 0.1},
        {"diversity_weight": 0.1, "contrastive_weight": 0.1},
    ],
)
def test_every_technique_alone_and_all_together(switches):
    """Training must lower the error, and each switch must change what comes out of it."""
    start, made = fit(steps=1, **switches), fit(**switches)
    assert error(made) < error(start)
    assert made.codes.shape == (120, 2)
    assert np.isfinite(made.points).all()
    if switches != PLAIN:
        assert not np.array_equal(made.points, fit(**PLAIN).points)


def test_a_seed_means_one_result_and_leaves_the_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = fit(steps=20)
    assert torch.rand(1) == expected
    assert np.array_equal(first.points, fit(steps=20).points)


def test_the_encoder_written_out_is_the_module():
    model = RqVae(5, (4,), RqVaeConfig(**SMALL))
    weights = {f"encoder.{name}": value.numpy() for name, value in model.encoder.state_dict().items()}
    weights |= {"input_mean": np.full(5, 2.0), "input_scale": np.array([3.0])}
    with torch.no_grad():
        peer = model.encoder((torch.from_numpy(VECTORS) - 2) / 3).numpy()
    assert np.allclose(encode(VECTORS, weights), peer, atol=2e-5)


def test_codes_are_the_nearest_ones_and_later_items_land_in_the_same_space():
    made = fit(steps=20)
    assert (made.codes == nearest_codes(made.points, made.codebooks)).all()
    assert np.allclose(encode(VECTORS[:3], made.weights), made.points[:3], atol=2e-5)


def test_standardised_within():
    """A shift and a scale of the input change the codes of nothing, and the decoder undoes them."""
    made, moved = fit(steps=30), fit(VECTORS * 0.01 + 7, steps=30)
    assert (made.codes == moved.codes).mean() > 0.95
    sums = reconstruct(made.codes, made.codebooks)
    assert np.allclose(moved.decode(sums), made.decode(sums) * 0.01 + 7, atol=1e-3)


@pytest.mark.parametrize("vectors", [np.ones((5, 3)), np.zeros((1, 3)), np.array([[1.0, 2.0, 3.0]])])
def test_constant_vectors_and_one_item_still_get_unique_ids(vectors):
    made = fit(vectors.astype(np.float32), sizes=(2, 4), steps=5)
    codes = unique_codes(made.points, made.codes, made.codebooks)
    assert len(np.unique(codes, axis=0)) == len(vectors)


def test_a_loss_that_is_not_finite_is_a_user_error():
    with pytest.raises(UserError, match=r"\[sids.rqvae\] step \d+: the loss is .*lower learning_rate"):
        fit(learning_rate=1e30, **PLAIN)


def test_diversity_is_one_when_all_codes_are_used_alike_and_the_size_when_one_is():
    book = torch.tensor([[0.0], [10.0]])
    even = diversity(torch.tensor([[0.1], [9.9]]), book)
    assert even == pytest.approx(1, abs=1e-4)
    assert diversity(torch.tensor([[0.1], [0.1]]), book) == pytest.approx(2, abs=1e-4)


def test_info_nce_by_hand():
    left = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    # cosines 1 with the partner and 0 with the other, over the temperature 0.1
    assert info_nce(left, left) == pytest.approx(np.log(1 + np.exp(-10)), abs=1e-6)
    assert info_nce(left, left.flip(0)) == pytest.approx(np.log(1 + np.exp(10)), abs=1e-5)


def test_unused_codes_move_to_the_hardest_items():
    model = RqVae(2, (3,), RqVaeConfig(latent=2, hidden=4))
    layer = model.quantizer.layers[0]
    _place(layer, torch.arange(3), torch.zeros(3, 2))
    lefts = [torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])]
    used = [torch.tensor([False, True, False])]
    _reset(model, used, lefts, errors_B=torch.tensor([0.5, 0.1, 0.9]))
    assert layer.codebook.tolist() == [[3, 3], [0, 0], [1, 1]]
    # The moving averages agree, so that a step that uses none of them leaves the codes where they are.
    assert layer._codebook.embed_avg[0].tolist() == layer.codebook.tolist()
