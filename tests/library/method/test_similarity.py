import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mfrlib import matched_cosine, mmcs
from mfrlib.method import similarity
from mfrlib.method.similarity import best_match, chance_level, coherence, cosine, hungarian_match, unique_matches


def dictionary(n=7, d_in=5, seed=0):
    return torch.randn(n, d_in, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


seeds = st.integers(0, 10_000)
few = settings(max_examples=25, deadline=None)


def test_cosine_against_the_definition():
    a, b = dictionary(3), dictionary(4, seed=1)
    for i, j in itertools.product(range(3), range(4)):
        expected = sum(x * y for x, y in zip(a[i].tolist(), b[j].tolist(), strict=True)) / (
            math.hypot(*a[i].tolist()) * math.hypot(*b[j].tolist())
        )
        assert cosine(a, b)[i, j].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("measure", [mmcs, matched_cosine])
class TestBothMeasures:
    @few
    @given(seed=seeds)
    def test_permuting_and_scaling_rows_changes_nothing(self, measure, seed):
        draws = torch.Generator().manual_seed(seed)
        a, b = dictionary(seed=seed), dictionary(seed=seed + 1)
        scale = torch.rand(7, 1, generator=draws) * 10 + 0.1
        shuffled = (a * scale)[torch.randperm(7, generator=draws)]
        assert measure(shuffled, b).item() == pytest.approx(measure(a, b).item(), abs=1e-12)
        assert measure(b, shuffled).item() == pytest.approx(measure(b, a).item(), abs=1e-12)

    @few
    @given(seed=seeds)
    def test_rotating_or_negating_both_changes_nothing(self, measure, seed):
        a, b = dictionary(seed=seed), dictionary(seed=seed + 1)
        rotation = torch.linalg.qr(dictionary(5, seed=seed + 2)).Q
        assert measure(a @ rotation, b @ rotation).item() == pytest.approx(measure(a, b).item(), abs=1e-12)
        assert measure(-a, -b).item() == pytest.approx(measure(a, b).item(), abs=1e-12)

    def test_a_dictionary_with_itself_scores_one_and_the_sign_matters(self, measure):
        a = dictionary()
        assert measure(a, a[torch.randperm(7)] * 3).item() == pytest.approx(1, abs=1e-12)
        basis = torch.eye(5)
        assert measure(basis, -basis).item() == pytest.approx(0, abs=1e-12)
        assert measure(basis[:1], -basis[:1]).item() == pytest.approx(-1)

    def test_widths_that_differ_are_refused_with_both_shapes(self, measure):
        with pytest.raises(ValueError, match=r"\(7, 5\) and \(7, 4\)"):
            measure(dictionary(), dictionary(d_in=4))
        with pytest.raises(ValueError, match=r"\(0, 5\)"):
            measure(dictionary(), dictionary(0))

    def test_dictionaries_of_two_precisions_are_compared_and_what_is_no_tensor_is_refused(self, measure):
        a, b = dictionary(), dictionary(seed=1)
        assert measure(a.float(), b).item() == pytest.approx(measure(a, b).item(), abs=1e-6)
        assert measure(a.bfloat16(), b.float()).item() == pytest.approx(measure(a, b).item(), abs=0.02)
        for other in (b.numpy(), b.long()):
            with pytest.raises(TypeError, match="two floating-point tensors"):
                measure(a, other)


def test_a_number_that_is_not_finite_is_no_match():
    broken = dictionary()
    broken[2, 1] = torch.nan
    assert mmcs(broken, dictionary(seed=1)).isnan()
    for a, b in ((broken, dictionary()), (dictionary(), broken)):
        with pytest.raises(ValueError, match="dictionaries: must be finite"):
            matched_cosine(a, b)


@few
@given(seed=seeds, n=st.integers(1, 6), m=st.integers(1, 6))
def test_one_to_one_is_never_more_than_max_and_is_symmetric(seed, n, m):
    a, b = dictionary(n, seed=seed), dictionary(m, seed=seed + 1)
    if n <= m:
        assert matched_cosine(a, b) <= mmcs(a, b) + 1e-12
    assert matched_cosine(a, b).item() == pytest.approx(matched_cosine(b, a).item(), abs=1e-12)


def test_mmcs_is_one_directional():
    a = torch.eye(4)
    assert mmcs(a[:1].repeat(4, 1), a) == 1
    assert mmcs(a, a[:1].repeat(4, 1)) == 0.25


@few
@given(seed=seeds, n=st.integers(1, 5), m=st.integers(1, 5))
def test_hungarian_is_the_best_of_all_assignments(seed, n, m):
    """Every assignment is tried; rows of the larger side are left out in every way."""
    a, b = dictionary(n, 3, seed), dictionary(m, 3, seed + 1)
    table = cosine(a, b).tolist()
    if n <= m:
        totals = [sum(table[i][j] for i, j in enumerate(p)) for p in itertools.permutations(range(m), n)]
    else:
        totals = [sum(table[i][j] for j, i in enumerate(p)) for p in itertools.permutations(range(n), m)]
    match = hungarian_match(a, b)
    assert match.cosine.nansum().item() == pytest.approx(max(totals), abs=1e-12)
    assert matched_cosine(a, b).item() == pytest.approx(max(totals) / min(n, m), abs=1e-12)


def test_hungarian_rows_are_distinct_and_belong_to_their_cosines():
    a, b = dictionary(), dictionary(seed=1)
    match = hungarian_match(a, b)
    assert sorted(match.row.tolist()) == list(range(7))
    torch.testing.assert_close(match.cosine, cosine(a, b)[torch.arange(7), match.row])


def test_rows_left_over_get_nan_and_no_row():
    match = hungarian_match(dictionary(7), dictionary(4, seed=1))
    assert match.cosine.isnan().sum() == 3
    assert torch.equal(match.row == -1, match.cosine.isnan())
    assert sorted(match.row[match.row >= 0].tolist()) == [0, 1, 2, 3]
    assert not hungarian_match(dictionary(4), dictionary(7, seed=1)).cosine.isnan().any()


def test_best_match_against_a_loop():
    a, b = dictionary(), dictionary(9, seed=1)
    match = best_match(a, b)
    for i, row in enumerate(cosine(a, b).tolist()):
        assert match.cosine[i].item() == max(row)
        assert match.row[i].item() == row.index(max(row))


@pytest.mark.parametrize("block", [1, 3, 7, 8])
def test_blocks_change_nothing(monkeypatch, block):
    a, b = dictionary(), dictionary(9, seed=1)
    whole = best_match(a, b), coherence(a), coherence(b)
    monkeypatch.setattr(similarity, "BLOCK", block)
    blocked = best_match(a, b), coherence(a), coherence(b)
    assert torch.equal(whole[0].row, blocked[0].row)
    torch.testing.assert_close(whole, blocked, rtol=1e-14, atol=1e-14)


def test_coherence_against_a_loop_and_of_known_dictionaries():
    a = dictionary()
    table = cosine(a, a).tolist()
    expected = sum(max(x for j, x in enumerate(row) if j != i) for i, row in enumerate(table)) / 7
    assert coherence(a).item() == pytest.approx(expected, abs=1e-12)
    assert coherence(a.repeat(2, 1)).item() == pytest.approx(1, abs=1e-12)
    assert coherence(torch.eye(5)) == 0


def test_mmcs_is_raised_by_duplicates_and_coherence_tells():
    b = torch.eye(4)
    crowded = b[[0, 0, 0, 0]]
    assert mmcs(crowded, b) == 1
    assert coherence(crowded) == 1
    assert unique_matches(crowded, b) == 0.25


def test_unique_matches():
    b = torch.eye(4)
    assert unique_matches(b, b[[2, 0, 3, 1]]) == 1
    assert unique_matches(b[[0, 0, 1, 2]], b) == 0.75
    assert unique_matches(b[:2], b) == 1  # two rows cannot reach more than two


@pytest.mark.parametrize(
    ("n", "d_in", "best", "one_to_one"), [(512, 256, 0.189, 0.180), (32, 16, 0.50, 0.45)], ids=["paper", "small"]
)
def test_chance_level_against_known_values(n, d_in, best, one_to_one):
    digits = 0.002 if n == 512 else 0.02
    draws = 2 if n == 512 else 30
    assert chance_level(n, n, d_in, n_draws=draws) == pytest.approx(best, abs=digits)
    assert chance_level(n, n, d_in, matched=True, n_draws=draws) == pytest.approx(one_to_one, abs=digits)


def test_chance_level_against_the_distribution_of_a_cosine():
    """A cosine of random directions has density ∝ (1 − t²)^((d−3)/2); the largest of n of them has its n-th power."""
    n, d_in = 40, 8
    t = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    density = (1 - t**2).clamp(min=0) ** ((d_in - 3) / 2)
    below = torch.cumulative_trapezoid(density, t) / torch.trapezoid(density, t)
    expected = 1 - torch.trapezoid(below.clamp(0, 1) ** n, t[1:]).item()
    assert chance_level(n, n, d_in, n_draws=100) == pytest.approx(expected, abs=0.004)


def test_chance_level_comes_from_its_seed_only():
    torch.manual_seed(1)
    first = chance_level(10, 10, 4, seed=5)
    torch.manual_seed(2)
    assert chance_level(10, 10, 4, seed=5) == first
    assert chance_level(10, 10, 4, seed=6) != first


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-30, 1e-13, 1e-20, 1e20, 1e30])
def test_dictionaries_are_of_any_norm(scale, dtype):
    a, b = dictionary().to(dtype), dictionary(seed=1).to(dtype)
    rows = torch.tensor([1.0, scale, 1, 1, scale, 1, scale], dtype=dtype)[:, None]
    for measure in (mmcs, matched_cosine, coherence):
        others = () if measure is coherence else (b,)
        for scaled in (scale * a, rows * a):
            assert measure(scaled, *others).item() == pytest.approx(measure(a, *others).item(), rel=1e-5)
    assert mmcs(torch.zeros(2, 5, dtype=dtype), b) == 0
