import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mfrlib import inactivity
from mfrlib.method.reinit import Reinitializer, ReinitLimitError


def use(n, on, off=0.0):
    """Return rates of n features, some given, the rest `off`."""
    return torch.tensor([*on, *[off] * (n - len(on))], dtype=torch.float64)


class TestInactivity:
    def test_an_array_is_refused_in_a_sentence(self):
        with pytest.raises(
            TypeError, match=r"rates: a floating-point tensor \(…, feature\), given ndarray; torch.as_tensor"
        ):
            inactivity(use(4, []).numpy(), 1)

    @pytest.mark.parametrize(
        ("rates", "k", "error", "words"),
        [
            (torch.ones(3, dtype=torch.int64), 1, TypeError, "given torch.int64"),
            (torch.tensor(0.5), 1, TypeError, r"given torch.float32 \(\)"),
            (torch.ones(2, 3), [1, 2, 3], ValueError, r"one for each SAE \(2,\), given \(3,\)"),
            (torch.ones(3), [1, 2], ValueError, "k: one number"),
            (torch.ones(3), 0, ValueError, "k: must be more than 0, given 0"),
            (torch.ones(2, 3), (3, -1), ValueError, r"k: must be more than 0, given \(3, -1\)"),
            (torch.ones(3), "a", ValueError, "k: must be .*given 'a'"),
        ],
    )
    def test_other_rates_or_another_number_of_k_are_refused(self, rates, k, error, words):
        with pytest.raises(error, match=words):
            inactivity(rates, k)

    @pytest.mark.parametrize("power", [1, 3])
    @pytest.mark.parametrize(("k", "n"), [(1, 4), (3, 12), (36, 512)])
    def test_even_use_is_zero(self, k, n, power):
        assert inactivity(use(n, [], k / n), k, power).item() == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize(("k", "n"), [(1, 4), (3, 12), (36, 512)])
    def test_k_features_always_on(self, k, n):
        assert inactivity(use(n, [1.0] * k), k).item() == pytest.approx(2 * (1 - k / n))
        # k features deviate by (1 − k/n)/(k/n), the others by 1
        assert inactivity(use(n, [1.0] * k), k, 3).item() == pytest.approx((k * (n / k - 1) ** 3 + (n - k)) / n)

    @pytest.mark.parametrize("power", [1, 3])
    def test_one_dead_feature(self, power):
        k, n = 3, 12
        alive = k / (n - 1)
        expected = (1 + (n - 1) * (alive / (k / n) - 1) ** power) / n
        assert inactivity(use(n, [0.0], alive), k, power).item() == pytest.approx(expected)

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 10_000), power=st.sampled_from([1, 3]))
    def test_against_a_loop_and_one_k_per_sae(self, seed, power):
        ks, rates = (2, 5, 1), torch.rand(3, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found = inactivity(rates, ks, power)
        for k, row, value in zip(ks, rates.tolist(), found.tolist(), strict=True):
            assert value == pytest.approx(sum((abs(r - k / 8) / (k / 8)) ** power for r in row) / 8)

    def test_order_of_the_features_does_not_matter(self):
        rates = torch.rand(9)
        assert inactivity(rates.flip(0), 2).item() == pytest.approx(inactivity(rates, 2).item(), rel=1e-6)


class TestReinitializer:
    @staticmethod
    def make(mode="window", threshold=1.0, window=5, limit=3):
        return Reinitializer(2, mode, threshold, window, limit)

    def test_off_never_fires(self):
        assert self.make("off").due(0, [9.0, 9.0]) == []

    def test_only_what_exceeds_the_threshold(self):
        reinit = self.make()
        assert reinit.due(0, [1.0, 0.0]) == []
        assert reinit.due(1, [1.0 + 1e-9, 1.0]) == [0]
        assert reinit.events == [(1, 0)]

    def test_window_counts_steps_of_the_present_life(self):
        reinit = self.make(window=5)
        assert reinit.due(5, [9.0, 9.0]) == []  # steps 0 to 4 are looked at
        assert reinit.due(4, [9.0, 0.0]) == [0]
        assert reinit.due(9, [9.0, 9.0]) == [0]  # born at step 5: 5 to 9; the other SAE is too old
        assert reinit.due(15, [9.0, 9.0]) == []
        assert reinit.events == [(4, 0), (9, 0)]

    def test_a_window_of_zero_never_looks(self):
        assert self.make(window=0).due(0, [9.0, 9.0]) == []

    def test_always_has_no_window(self):
        assert self.make("always").due(10_000, [0.0, 9.0]) == [1]

    def test_the_limit_is_per_sae_and_says_what_to_do(self):
        reinit = self.make("always", limit=2)
        for step in range(2):
            reinit.due(step, [9.0, 0.0])
        reinit.due(2, [0.0, 9.0])
        with pytest.raises(ReinitLimitError, match=r"SAE 0 .* 2 times .*9 at step 3.*threshold = 1.*reinit=off"):
            reinit.due(3, [9.0, 0.0])

    def test_state_survives_json(self):
        first, second = self.make(limit=9), self.make(limit=9)
        first.due(2, [9.0, 0.0])
        second.restore(json.loads(json.dumps(first.state())))
        assert second.events == first.events == [(2, 0)]
        assert second.born == first.born == [3, 0]
        for step in range(3, 20):
            statistic = [9.0 * (step % 4 == 3), 9.0 * (step % 3 == 1)]
            assert first.due(step, statistic) == second.due(step, statistic)
        assert first.events == second.events
        assert {sae for step, sae in first.events if step > 2} == {0, 1}

    def test_a_restored_state_is_not_shared(self):
        first, second = self.make(), self.make()
        second.restore(first.state())
        first.due(0, [9.0, 0.0])
        assert second.born == [0, 0]
        assert second.events == []

    def test_nan_is_not_above_a_threshold(self):
        assert self.make("always").due(0, [float("nan"), 0.0]) == []
