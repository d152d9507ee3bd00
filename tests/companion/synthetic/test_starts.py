"""Many starts on one data set, and what each metric of inactivity says of them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.chapters.synthetic.starts import figures, kinds
from mfrbook.chapters.synthetic.starts import runs as starts
from mfrbook.chapters.synthetic.starts.measures import (
    starts_early_cluster,
    starts_early_cube,
    starts_metric_kind,
    starts_metric_released,
    telling,
)
from mfrbook.experiments.evidence import Evidence, Untested
from mfrbook.store.store import Store
from mfrlib.config import ConfigError
from mfrlib.data.synthetic import SyntheticData

SMALL = {
    "n_input_features": 51, "d_in": 24, "n_groups": 6, "n_active": 5, "k": 5, "n_features": 48, "n_saes": 3, "steps": 12,
    "batch_size": 100,
}  # fmt: skip


def run(tmp_path, **fields):
    return starts.run(starts.configure({**SMALL, **fields}, "smoke"), Store(tmp_path), progress=False)


def test_starts_differ_and_data_do_not(tmp_path):
    a, b = (run(tmp_path, seed=seed) for seed in (0, 1))
    assert a.results["mmcs_input"] != b.results["mmcs_input"]
    config = starts.configure({**SMALL, "seed": 1}, "smoke")
    source = SyntheticData(config, config.data_seed, config.batch_size, config.steps * config.batch_size)
    assert source.seed == starts.configure({**SMALL, "seed": 0}, "smoke").data_seed
    other = run(tmp_path, seed=0, data_seed=7)
    assert other.results["fvu"] != a.results["fvu"]


def test_a_start_is_what_it_is_alone_in_a_run_of_its_own(tmp_path):
    """The stack's SAEs do not see each other: the recorded statistic of the first is the training loop's own."""
    found = run(tmp_path, log_every=1)
    at, logged = found.series("inactivity")
    cube = found.arrays["statistics"][starts.METRICS.index("rates, cube")]
    assert cube.shape == (12, 3)
    np.testing.assert_allclose(cube[at], logged, rtol=2e-3)


def test_an_always_on_feature_shows_in_the_statistics():
    rates = torch.full((2, 100), 0.05)
    rates[1, 0], rates[1, 1:] = 1.0, (5 - 1.0) / 99
    found = starts.statistics(rates, (5, 5), torch.zeros(2, 7, 100))
    by_name = dict(zip(starts.METRICS, found, strict=True))
    assert by_name["rates, power 1"][0] == pytest.approx(0, abs=1e-6)
    assert by_name["rates, cube"][1] == pytest.approx((19**3 + 99 * 0.1919**3) / 100, rel=1e-3)
    assert by_name["largest rate"].tolist() == pytest.approx([0.05, 1.0])
    assert by_name["pre-activations, power 1"].tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("field", [{"alpha": 1.0}, {"reinit": "always"}])
def test_nothing_may_tie_starts_together_or_end_one(field):
    with pytest.raises(ConfigError, match=next(iter(field))):
        starts.configure({**SMALL, **field}, "smoke")


def test_the_bank_keeps_its_number_of_supports():
    for profile in starts.PROFILES:
        config = starts.configure({}, profile, "as-released")
        assert config.steps * config.batch_size / config.support_rows == pytest.approx(100, rel=0.01)
    assert starts.configure({}, "published", "as-printed").reduction == synthetic.PRESETS["as-printed"]["reduction"]


def stacks(telling, n=4):
    """Stacks of ten starts, of which every other ends with an always-on feature, and metrics that tell so or do not."""
    draws = np.random.default_rng(0)
    rows = []
    for seed in range(n):
        on = np.arange(10) % 2 == seed % 2
        values = draws.normal(size=(len(starts.METRICS), 150, 10))
        values[telling] += 100 * on
        results = {
            "largest_rate": np.where(on, 0.99, 0.4).tolist(),
            "cluster": np.where(on, 7.0, 1.0).tolist(),
            "samples": 1,
        }
        run = SimpleNamespace(results=results, arrays={"statistics": values.astype(np.float16)}, config={})
        rows.append(starts.Row("as-released", seed, run))
    found = Evidence("smoke")
    found.runs["starts"] = rows
    return found


def test_metrics_that_tell_alike_do_not_matter_and_one_that_does_not_tell_does():
    for measure in (starts_metric_released, starts_metric_kind):
        assert np.mean(measure(stacks([0, 1]))) == pytest.approx(0)
        assert np.mean(measure(stacks([1]))) == pytest.approx(0.5, abs=0.05)
        assert np.mean(measure(stacks([0]))) == pytest.approx(-0.5, abs=0.05)
    assert np.mean(starts_early_cube(stacks([1]))) == pytest.approx(0.5)
    assert abs(np.mean(starts_early_cube(stacks([0])))) < 0.4
    assert np.mean(starts_early_cluster(stacks([1]))) > 2 > 0.5 > abs(np.mean(starts_early_cluster(stacks([0]))))


def test_starts_that_end_alike_tell_nothing():
    found = stacks([0])
    for row in found.runs["starts"]:
        row.run.results["largest_rate"] = row.run.results["cluster"] = [0.2] * 10
    for measure in (starts_metric_released, starts_metric_kind):
        with pytest.raises(Untested, match="end alike"):
            measure(found)


def test_the_figure_shows_the_mean_of_each_bin_and_says_where_nothing_can_be_told():
    rows = stacks([0]).get("starts")
    whole, table = telling([row for row in rows if row.data == "as-released"]), figures.by_step(rows)
    mine = table[(table["data"] == "released data") & (table["metric"] == starts.METRICS[0])]
    assert (mine["first step"].iloc[0], mine["last step"].iloc[-1]) == (0, whole.shape[1] - 1)
    widths = mine["last step"] - mine["first step"] + 1
    assert (mine["AUC"] * widths).sum() / widths.sum() == pytest.approx(whole[0].mean())
    for row in rows:
        row.run.results["largest_rate"] = [0.2] * 10
    assert figures.by_step(rows)["AUC"].isna().all()
    assert "On released data all starts end alike." in figures.telling_by_step(rows).sees


def baselines(kinds_and_sizes):
    found = Evidence("smoke")
    found.runs["synthetic"] = [
        {
            "baseline": SimpleNamespace(
                results={"cluster": sizes, "mmcs_input": [0.9 - 0.1 * one for one in on]},
                arrays={"rate": np.array([[0.95 if one else 0.3, 0.1] for one in on])},
            )
        }
        for on, sizes in kinds_and_sizes
    ]
    return found


def test_each_sae_counts_by_its_own_kind():
    found = baselines([((1, 0), [40, 10]), ((1, 1), [44, 42]), ((0, 1), [12, 38])])
    assert kinds.cluster_size_with(found) == [40, 44, 42, 38]
    assert kinds.cluster_size_without(found) == [10, 12]
    assert np.mean(kinds.always_on_share(found)) == pytest.approx(4 / 6)
    assert np.mean(kinds.always_on_cluster(found)) == pytest.approx(30, abs=3)
    assert np.mean(kinds.always_on_similarity(found)) == pytest.approx(0.1)
    with pytest.raises(Untested, match="lacks an"):
        kinds.cluster_size_without(baselines([((1, 1), [40, 41])]))


def test_two_sizes_explain_all_of_two_and_less_of_many():
    assert np.mean(kinds.cluster_two_sizes(baselines([((1, 0), [15, 5])] * 4))) == pytest.approx(1)
    assert np.mean(kinds.cluster_two_sizes(baselines([((1, 0), [i, 7 * i % 11]) for i in range(9)]))) < 0.9
