import pytest

from mfrbook.chapters.end_to_end import pareto, tables
from mfrbook.chapters.end_to_end.sizes import smollm2, trials


def test_the_runs_differ_in_their_learning_rate_and_begin_with_the_chapter_s():
    planned = trials.asked("published", None, {})
    assert planned[0].key == smollm2.asked("published", None, {})[0]["local"].key
    assert [one.config.learning_rate for one in planned] == [smollm2.SIZES["learning_rate"], *trials.OTHERS]
    assert len({(one.config.sparsity, one.config.seed, one.config.steps) for one in planned}) == 1
    assert trials.asked("quick", None, {}) == []


def test_every_sae_of_every_rate_has_a_row():
    runs = trials.collect("published", trains=False)
    table = tables.local_rates(runs)
    assert [*table["learning rate"]] == [rate for rate in (0.003, 0.01, 0.03) for _ in smollm2.SPARSITIES["local"]]
    real = smollm2.collect("published", trains=False)[0]
    gains = [tables.named_values("", [{**real, "local": run}], pareto.points([{**real, "local": run}])) for run in runs]
    least = min(float(one["_e2e_ce_share"].split()[0]) for one in gains)
    assert tables.least_saved(runs, real) == pytest.approx(least, abs=5e-4)
    assert [*table["CE increase"]] == [value for run in runs for value in run.results["ce_increase"]]
