import numpy as np
import pytest
from scipy import stats

from mfrbook.drawing.statistics import as_text, interval, pearson_interval, pseudo_values


def test_interval_is_that_of_the_t_test():
    values = np.random.default_rng(0).normal(size=(5, 3))
    middle, low, high = interval(values)
    for column in range(3):
        test = stats.ttest_1samp(values[:, column], 0).confidence_interval(0.95)
        assert (low[column], high[column]) == pytest.approx((test.low, test.high))
        assert middle[column] == pytest.approx(values[:, column].mean())


def test_interval_covers_the_mean_as_often_as_it_says():
    values = np.random.default_rng(1).normal(size=(4, 20_000))
    _, low, high = interval(values, 0.8)
    assert ((low < 0) & (high > 0)).mean() == pytest.approx(0.8, abs=0.01)


def test_one_seed_has_no_width():
    middle, low, high = interval(np.array([[1.0, 2.0]]))
    assert middle.tolist() == low.tolist() == high.tolist() == [1.0, 2.0]


def correlated(n, r, seed=0):
    a, noise = np.random.default_rng(seed).normal(size=(2, n))
    return a, r * a + np.sqrt(1 - r**2) * noise


def test_r_is_pearsons_and_its_interval_that_of_the_normal_theory():
    a, b = correlated(1000, 0.6)
    r, low, high = pearson_interval(a, b)
    expected = stats.pearsonr(a, b)
    assert r == pytest.approx(expected.statistic)
    theory = expected.confidence_interval(0.95)
    assert (low, high) == pytest.approx((theory.low, theory.high), abs=0.01)


def test_nan_pairs_are_left_out():
    a, b = correlated(200, 0.6)
    holes = a.copy()
    holes[::7] = np.nan
    kept = np.isfinite(holes)
    assert pearson_interval(holes, b) == pearson_interval(a[kept], b[kept])


def test_the_interval_depends_on_its_seed_only_and_r_does_not():
    a, b = correlated(50, 0.6)
    assert pearson_interval(a, b) == pearson_interval(a, b)
    assert pearson_interval(a, b, seed=1)[0] == pearson_interval(a, b)[0]
    assert pearson_interval(a, b, seed=1)[1] != pearson_interval(a, b)[1]


class TestPseudoValues:
    def test_their_mean_is_the_mean_over_pairs(self):
        pairs = np.random.default_rng(0).normal(size=(5, 5))
        off = pairs[~np.eye(5, dtype=bool)]
        np.fill_diagonal(pairs, np.nan)
        assert pseudo_values(pairs).mean() == pytest.approx(off.mean())

    def test_each_is_n_times_the_mean_less_the_rest_s(self):
        pairs = np.random.default_rng(1).normal(size=(4, 4))
        np.fill_diagonal(pairs, np.nan)
        for left_out, value in enumerate(pseudo_values(pairs)):
            rest = np.delete(np.delete(pairs, left_out, 0), left_out, 1)
            assert value == pytest.approx(4 * np.nanmean(pairs) - 3 * np.nanmean(rest))

    def test_intervals_over_them_cover_the_truth(self):
        """Pairs that share a member go together: a plain interval over pairs would be too narrow."""
        draws, covered, n = np.random.default_rng(2), [], 5
        for _ in range(600):
            members = draws.normal(size=n)
            pairs = members[:, None] + members[None]
            _, low, high = interval(pseudo_values(pairs))
            covered.append(low <= 0 <= high)
        assert np.mean(covered) == pytest.approx(0.95, abs=0.03)

    def test_of_two_there_is_one_value(self):
        assert pseudo_values(np.array([[np.nan, 1.0], [3.0, np.nan]])).tolist() == [2]

    def test_one_alone_has_no_pair(self):
        assert np.isnan(pseudo_values(np.zeros((1, 1)))).tolist() == [True]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ((-0.1234, -0.2, 0.05), "−0.123 [−0.2, 0.05]"),
        ((1e-5, 1e-5, 1e-5), "1e−05"),
        ((3.0, 2.5, 3.5), "3 [2.5, 3.5]"),
        ((4095.6, 999.4, 999.6), "4,096 [999, 1,000]"),
    ],
)
def test_an_interval_is_written_as_readers_have_it(value, said):
    assert as_text(*value) == said
