import numpy as np
import pytest

from mfrbook.chapters.end_to_end import figures, pareto
from mfrbook.store.runs import Run


def run(seed, l0, alive, ce, sparsity=None):
    n = len(l0)
    config = {"seed": seed, "sae": "relu", "sparsity": sparsity or [1.0] * n}
    results = {"l0": l0, "alive": alive, "ce_increase": ce, "kl": ce, "explained_variance": [0.5] * n}
    return Run("end-to-end", config, "test", results | {"later": {"a": [0.2] * n, "b": [0.4] * n}})


def local(seed=0, scale=1.0):
    """On this front CE halves for each doubling of L0, and alive features double with it."""
    return run(seed, [8, 16, 32, 64], [100, 200, 400, 800], [scale * ce for ce in (0.4, 0.2, 0.1, 0.05)])


def test_points_has_a_row_for_every_sae():
    table = pareto.points([{"local": local(), "e2e": run(0, [10.0], [70], [0.2], [3.0])}])
    assert len(table) == 5
    row = table[table["condition"] == "e2e"].iloc[0]
    assert (row["L0"], row["alive"], row["CE increase"], row["set to"]) == (10, 70, 0.2, 3.0)
    assert row["explained variance, later"] == pytest.approx(0.3)


def test_the_figure_of_gains_leaves_out_what_lies_beyond_the_local_front():

    def seed(number, l0):
        points = {
            "local": local(),
            "e2e": run(0, [l0], [70], [0.1], [3.0]),
            "downstream": run(0, [16.0], [70], [0.1], [3.0]),
        }
        for one in points.values():
            one.config["seed"] = number
        return points

    half, none = [seed(0, 16.0), seed(1, 1e4)], [seed(0, 1e4)]
    sets = {"half": pareto.points(half), "none": pareto.points(none)}
    plot = figures.gains(sets)
    rows = plot.data.set_index(["SAE", "runs"])["seeds"].to_dict()
    assert rows == {
        ("End-to-end", "half"): 1, ("End-to-end + downstream", "half"): 2, ("End-to-end + downstream", "none"): 1,
    }  # fmt: skip
    assert "nan" not in plot.sees


def test_a_k_is_the_setting_of_topk_saes():
    one = run(0, [8.0, 9.0], [1, 1], [0.1, 0.1])
    one.config |= {"sae": "topk", "k": [8, 9]}
    assert pareto.points([{"e2e": one}])["set to"].tolist() == [8, 9]


@pytest.mark.parametrize(("l0", "ce"), [(16, 0.2), (32, 0.1), (16 * 2**0.5, 0.1 * 2**0.5)])
def test_a_point_of_the_front_gains_nothing_over_it(l0, ce):
    alive = l0 * 12.5
    table = pareto.points([{"local": local(), "e2e": run(0, [l0], [alive], [ce])}])
    assert pareto.ce_at_equal_l0(table, "e2e") == pytest.approx([0], abs=1e-9)
    assert pareto.reduction_at_equal_ce(table, "L0", "e2e") == pytest.approx([0], abs=1e-9)
    assert pareto.reduction_at_equal_ce(table, "alive", "e2e") == pytest.approx([0], abs=1e-9)


def test_a_front_whose_ce_does_not_rise_everywhere_is_straight_over_log_l0():
    front = run(0, [8, 16, 32], [100, 200, 400], [0.2, 0.1, 0.0])
    table = pareto.points([{"local": front, "e2e": run(0, [16 * 2**0.5], [100], [0.05])}])
    assert pareto.ce_at_equal_l0(table, "e2e") == pytest.approx([0], abs=1e-9)
    assert pareto.reduction_at_equal_ce(table, "L0", "e2e") == pytest.approx([0], abs=1e-9)


def test_gains_are_positive_on_the_paper_s_side():
    """At L0 16 the front has 0.2; at CE 0.1 it has L0 32 and 400 alive."""
    table = pareto.points([{"local": local(), "e2e": run(0, [16], [100], [0.1])}])
    assert pareto.ce_at_equal_l0(table, "e2e") == pytest.approx([0.1])
    assert pareto.reduction_at_equal_ce(table, "L0", "e2e") == pytest.approx([0.5])
    assert pareto.reduction_at_equal_ce(table, "alive", "e2e") == pytest.approx([0.75])


def test_each_seed_is_compared_with_its_own_front():
    seeds = [
        {"local": local(seed, scale), "e2e": run(seed, [16], [200], [0.2])} for seed, scale in ((0, 1.0), (1, 2.0))
    ]
    assert pareto.ce_at_equal_l0(pareto.points(seeds), "e2e") == pytest.approx([0, 0.2])


def test_what_lies_beyond_the_front_is_not_extrapolated():
    stack = run(0, [16, 200, 2], [100, 100, 100], [0.1, 0.02, 0.9])
    table = pareto.points([{"local": local(), "e2e": stack}, {"local": local(1), "e2e": run(1, [200], [100], [0.02])}])
    gains = pareto.ce_at_equal_l0(table, "e2e")
    assert gains[0] == pytest.approx(0.1)  # the one SAE within reach
    assert np.isnan(gains[1])


def test_a_dead_sae_is_left_out():
    stack = run(0, [16, 0], [100, 0], [0.1, 5.0])
    table = pareto.points([{"local": local(), "e2e": stack}])
    assert pareto.reduction_at_equal_ce(table, "alive", "e2e") == pytest.approx([0.75])


def test_interpolation_takes_points_in_any_order():
    assert pareto.interpolate([3, 1, 2], [30, 10, 20], 1.5) == 15
    assert np.isnan(pareto.interpolate([3, 1, 2], [30, 10, 20], 3.1))
