"""The cells of the released method, and the always-on feature."""

from types import SimpleNamespace

import numpy as np
import pytest

from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.chapters.synthetic.questions import always_on, figures, released, released_measures, released_results
from mfrbook.drawing.statistics import binomial_interval
from mfrbook.drawing.tables import Interval
from mfrbook.experiments.evidence import Evidence
from mfrbook.experiments.planned import plan
from mfrbook.store.runs import Run, describe_config
from mfrlib.method.reinit import inactivity


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MFR_CACHE", str(tmp_path_factory.mktemp("runs")))
        patch.setattr(synthetic, "HELD_OUT_BATCHES", 1)
        yield released.collect("smoke", 2)


def test_cells_differ_in_the_penalty_reinitialisation_and_centring_and_in_nothing_else():
    configs = [one.run.config for one in released.asked("published", None, {})]
    told = [(one.alpha, one.reinit, one.center) for one in configs]
    assert told == [
        (0, "off", False), (0, "always", False), (3, "off", False), (3, "always", False), (0, "off", True),
    ] * released.ARCHIVED_SEEDS  # fmt: skip
    rest = [{**describe_config(one), "alpha": 0, "reinit": 0, "center": 0, "seed": 0} for one in configs]
    assert all(one == rest[0] for one in rest)


def test_the_published_cells_are_the_authors_configuration():
    config = released.asked("published", None, {})[0].run.config
    assert config == synthetic.configure({}, "published", "as-released")
    assert (config.steps, config.batch_size, config.support_rows) == (5000, 10_000, 500_000)
    assert (config.matching, config.reduction, config.warmup, config.optimizer) == ("hungarian", "mean", 100, "adam")
    assert (config.inactivity_power, config.reinit_threshold) == (3, 2.5)


def test_a_smaller_size_keeps_the_number_of_supports_a_group():
    config = released.asked("quick", None, {})[0].run.config
    assert config.steps * config.batch_size // config.support_rows == 100


def test_the_published_cells_are_archived():
    assert len(released.collect("published")) == 5 * released.ARCHIVED_SEEDS


def test_every_run_shown_is_planned_and_tables_have_every_sae(rows):
    planned = {one.key for one in plan(["released"], {"profile": "smoke", "n_seeds": 2})}
    assert {run.key for row in rows for run in (row.run, row.together)} <= planned
    table = released_results.saes(rows)
    assert len(table) == len(released.CELLS) * 2 * 2
    assert list(table["cell"].unique()) == list(released.CELLS)
    assert (table["together"] >= table["recovered"]).all()


def test_the_home_figure_has_every_cell_and_offers_each(rows):
    table = released_results.together(rows)
    plot = figures.answer(table, names=released_results.LABELS)
    assert list(plot.data["choice"].unique()) == list(released.CELLS)
    offered = figures.choices(table.iloc[:0], table)
    assert len(offered) == len(released.CELLS)
    parts = offered[["matching", "centred", "reinit"]]
    assert not parts.duplicated().any()


def test_copies_are_said_to_find_no_more_together_than_one(rows):
    table = released_results.together(rows).assign(each=0.5, any=0.7)
    assert "no more than one" not in figures.answer(table).sees
    table.loc[table["choice"] == "mfr", "any"] = 0.5
    assert "With both (MFR), two find no more than one." in figures.answer(table, names=released_results.LABELS).sees


def test_an_effect_is_the_mean_of_what_changes_seed_by_seed(rows):
    table = released_results.saes(rows)
    found = released_results.effects(table).set_index(["change by", "measure"])
    value = found.loc[("centring alone", "MMCS with true features"), "value"]
    by = table.groupby(["cell", "seed"])["mmcs"].mean()
    assert value == pytest.approx((by["centred"] - by["baseline"]).mean())
    assert (found["low"] <= found["value"]).all()
    assert (found["value"] <= found["high"]).all()


def test_one_seed_has_no_interval_and_says_that_one_cannot_tell(rows):
    table = released_results.saes([row for row in rows if row.seed == 0])
    for one in (released_results.summary(table), released_results.effects(table)):
        assert one[["low", "high"]].isna().all(axis=None)
        shared = one["measure"].str.startswith("share of the features that both")  # unknown where SAEs share none
        assert one.loc[~shared, "value"].notna().all()
    assert "With 1 seed for each cell, of the 5 that are needed, one cannot tell" in released_results.too_few(table, 5)


def test_figures_have_a_point_for_each_sae(rows):
    table = released_results.saes(rows)
    plot = released_results.figure(table)
    points = [line for line in plot.figure.axes[0].lines if len(line.get_xdata()) == 1 and line.get_marker() in "Do"]
    assert len(points) == len(table)
    assert len(plot.data) == len(table)


def a_run(always, *, n_active=36, key="a", **changes):
    """A run of two SAEs of four features: the first SAE has a feature that is active on `always` of the samples."""
    config = describe_config(synthetic.SyntheticConfig(n_active=n_active, **changes))
    rate = np.array([[always, 0.1, 0.1, 0.1], [0.2, 0.3, 0.2, 0.2]])
    minus_mean = np.array([[-0.95, 0.5, 0.0, 0.0], [0.1, -0.2, 0.0, 0.0]])
    results = {"cluster": [40, 10], "mmcs_input": [0.7, 0.9], "samples": 100}
    metrics = [{"step": 0, "inactivity": [0.9, 0.4]}, {"step": 500, "inactivity": [0.1, 9.0]}]
    return Run("synthetic", config, "synthetic", results, metrics, {"rate": rate, "minus_mean": minus_mean}, key=key)


def test_an_always_on_feature_is_told_by_its_rate_and_its_cosine_with_the_mean_has_the_right_sign():
    table = always_on.saes([a_run(0.95)])
    assert list(table["always_on"]) == [True, False]
    assert list(table["cosine"]) == [0.95, 0.2]
    assert list(table["early"]) == [0.9, 0.4], "what comes after the first steps does not count"
    assert not always_on.saes([a_run(0.9)])["always_on"].any()


def test_kinds_are_told_apart_group_by_group():
    runs = [a_run(0.99, seed=seed, key=str(seed)) for seed in range(3)]
    runs += [a_run(0.2, n_active=3, key="other"), a_run(0.99, reinit="always", key="restarted")]
    table = always_on.saes(runs)
    summary = always_on.summary(table).set_index("data and samples")
    assert list(summary.index) == ["first-edition, 100 M", "one-group, 100 M"]
    first, other = summary.iloc[0], summary.iloc[1]
    share, clusters = "always on, share", [f"features in the cluster: {kind}" for kind in ("always on", "others")]
    assert (first["SAEs"], first["always on, SAEs"]) == (6, 3)
    assert first[share] == Interval(0.5, *binomial_interval(3, 6))
    assert (*(first[name].middle for name in clusters), first["AUC of early inactivity"]) == (40, 10, 1)
    assert (other["always on, SAEs"], other[share].middle) == (0, 0)
    assert np.isnan(other[clusters[0]])


@pytest.mark.parametrize(("power", "least"), [(3, 6.5), (1, 0.02)])
def test_one_always_on_feature_of_512_adds_to_inactivity_what_the_readings_say(power, least):
    import torch

    even = torch.full((512,), 32 / 512)
    one = torch.cat([torch.ones(1), torch.full((511,), 31 / 511)])
    assert inactivity(even, 32, power) == pytest.approx(0, abs=1e-6)
    assert least < float(inactivity(one, 32, power)) < 7


def test_auc_is_a_share_of_pairs():
    assert always_on.auc([3, 2], [1, 2]) == pytest.approx(3.5 / 4)
    assert always_on.auc([1], [2]) == 0
    assert np.isnan(always_on.auc([], [1]))


@pytest.mark.parametrize("n", [1, 6, 30])
def test_the_exact_interval_holds_its_share_and_is_symmetric(n):
    for found in range(n + 1):
        low, high = binomial_interval(found, n)
        assert 0 <= low <= found / n <= high <= 1
        assert binomial_interval(n - found, n) == pytest.approx((1 - high, 1 - low))
    assert binomial_interval(0, n)[1] == pytest.approx(1 - 0.025 ** (1 / n))


def evidence_of(**mmcs):
    """Evidence of the released cells: MMCS with the true features of each cell, by seed."""
    found = Evidence("smoke")
    found.runs["released"] = [
        released.Row(
            cell,
            seed,
            SimpleNamespace(results={"mmcs_input": [value - 0.1, value + 0.1], "samples": 10}),
            SimpleNamespace(results={"any": value}),
        )
        for cell, values in mmcs.items()
        for seed, value in enumerate(values)
    ]
    return found


def test_an_order_holds_only_if_every_step_of_it_does():
    rising = evidence_of(baseline=[0.5, 0.5, 0.5], reinit=[0.6, 0.61, 0.6], mfr=[0.9, 0.9, 0.91])
    assert released_measures.released_similarity_order(rising) == pytest.approx([0.1, 0.11, 0.1])
    broken = evidence_of(baseline=[0.5, 0.5, 0.5], reinit=[0.8, 0.81, 0.8], mfr=[0.7, 0.7, 0.7])
    assert released_measures.released_similarity_order(broken) == pytest.approx([-0.1, -0.11, -0.1])


def test_cells_are_compared_within_a_seed():
    found = evidence_of(baseline=[0.1, 0.5], reinit=[0.2, 0.7], mfr=[0.5, 0.9], penalty=[0.4, 0.4], centred=[0.3, 0.6])
    assert released_measures.released_reinit_alone(found) == pytest.approx([0.1, 0.2])
    assert released_measures.released_penalty_alone(found) == pytest.approx([0.3, -0.1])
    assert released_measures.released_penalty_on_top(found) == pytest.approx([0.3, 0.2])
    assert released_measures.released_centring_alone(found) == pytest.approx([0.2, 0.1])
    assert released_measures.released_together(found) == pytest.approx([0.3, 0.2])
    assert found.samples("released_together") == 10
