import numpy as np
import pytest

from gr2.sid.picture import draw_report
from gr2.sid.report import (
    alone_share,
    neighbours,
    perplexity,
    purity,
    reconstruction_errors,
    sharing,
    sharing_by_chance,
    sid_report,
)
from gr2.types import Item


def test_alone_share():
    assert alone_share(np.array([[0, 1], [0, 1], [0, 2], [1, 1]])) == 2 / 4


def test_perplexity():
    assert perplexity(np.array([0, 1, 2, 3]), 4) == pytest.approx(4)
    assert perplexity(np.array([2, 2, 2]), 4) == pytest.approx(1)
    assert perplexity(np.array([0, 0, 1, 1]), 8) == pytest.approx(2)


def test_purity_counts_shared_groups_and_leaves_out_what_most_items_carry():
    # "film" is carried by all. Group 0: two of three are war; group 1: one of two is love; group 2 is alone.
    categories = [("film", "war"), ("film", "war"), ("film",), ("film", "love"), ("film",), ("film", "love")]
    assert purity(categories, np.array([[0], [0], [0], [1], [1], [2]])) == (2 + 1) / 5
    assert purity(categories, np.arange(6)[:, None]) is None


def test_report_of_a_catalogue_worked_out_by_hand():
    items = [Item(item_id=str(i), title=f"t{i}") for i in range(4)]
    vectors = np.array([[-3.0], [-3.0], [3.0], [3.0]], dtype=np.float32)
    codebooks = [np.array([[-2.0], [2.0]], dtype=np.float32), np.array([[0.0], [1.0]], dtype=np.float32)]
    before = np.array([[0, 0], [0, 0], [1, 1], [1, 0]])
    after = np.array([[0, 0], [0, 1], [1, 1], [1, 0]])
    report = sid_report(items=items, vectors=vectors, before=before, after=after, codebooks=codebooks)
    assert report["n_items"] == 4
    assert report["unique_share_before"] == 2 / 4
    assert report["unique_share"] == 1
    assert report["moved_items"] == 1
    # variance 4 x 9; left after the repair: -3+2-0 = -1, -3+2-1 = -2, 3-2-1 = 0, 3-2-0 = 1
    assert report["reconstruction_error"] == pytest.approx((1 + 4 + 0 + 1) / 36)
    assert report["reconstruction_error_before"] == pytest.approx((1 + 1 + 0 + 1) / 36)
    assert report["levels"][0]["reconstruction_error"] == pytest.approx(4 / 36)
    assert [level["usage"] for level in report["levels"]] == [1, 1]
    assert [level["distinct_prefixes"] for level in report["levels"]] == [2, 4]
    assert report["largest_collisions"] == [{"id": "<s_a_0><s_b_0>", "n": 2, "titles": ["t0", "t1"]}]
    assert report["collision_group_sizes"] == {"2": 1}
    # nearest first: 0-1 and 2-3 are equal; each of the four shares one code with one of the three others
    assert report["levels"][0]["neighbours_sharing"] == pytest.approx(1 / 3)
    assert report["levels"][0]["neighbours_sharing_by_chance"] == pytest.approx(1 / 3)
    assert report["levels"][1]["neighbours_sharing"] == 0


def test_errors_go_through_the_decoder():
    vectors = np.array([[2.0], [4.0]])
    codes, books = np.array([[0], [1]]), [np.array([[1.0], [3.0]], dtype=np.float32)]
    # variance 1 + 1; decoded 1 + 0.5 and 3 + 0.5, so 0.5 is left of each
    assert reconstruction_errors(vectors, codes, books, lambda sums: sums + 0.5) == [pytest.approx((0.25 + 0.25) / 2)]


def test_neighbours_leave_the_item_itself_out():
    vectors = np.array([[0.0], [0.0], [0.1], [9.0], [9.1], [9.2], [9.3], [20.0]])
    asked, near = neighbours(vectors)
    assert asked.tolist() == list(range(8))
    assert near.shape == (8, 5)
    assert all(item not in row for item, row in zip(asked, near.tolist(), strict=True))
    assert near[0][:2].tolist() == [1, 2]
    assert near[1][:2].tolist() == [0, 2]


def test_sharing():
    codes = np.array([[0], [0], [1], [1]])
    assert sharing(codes, np.array([0, 2]), np.array([[1, 2], [3, 0]])) == 0.5
    assert sharing_by_chance(codes) == pytest.approx((2 * 1 + 2 * 1) / (4 * 3))
    assert sharing_by_chance(codes[:1]) is None


def test_one_item_and_the_picture(tmp_path):
    codes, books = np.array([[0, 1]]), [np.zeros((2, 3), dtype=np.float32)] * 2
    one = [Item(item_id="a", title="A")]
    report = sid_report(items=one, vectors=np.zeros((1, 3)), before=codes, after=codes, codebooks=books)
    assert report["unique_share"] == 1
    assert report["levels"][0]["neighbours_sharing"] is None
    draw_report(tmp_path / "a.png", report, codes)
    draw_report(tmp_path / "b.png", report, codes)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
