"""What a run changes against another on the way: paired by step, whatever each recorded."""

from types import SimpleNamespace

import numpy as np
import pytest

from mfrbook.drawing import changes
from mfrbook.experiments.controls import change_along, early_and_late


def fake(losses, log_every=1):
    """A run with the losses `(step, sae)`; in its first three steps all are recorded, as in a watched window."""
    kept = [step for step in range(len(losses)) if step < 3 or step % log_every == 0 or step == len(losses) - 1]
    series = {"loss": (np.array(kept), np.array(losses)[kept])}
    return SimpleNamespace(
        config={"log_every": log_every, "k": [2, 4], "batch_size": 10}, series=lambda name: series[name]
    )


@pytest.fixture
def seeds():
    """Two seeds of 12 steps; the change is `factors`, whatever the noise of the batches that both runs share."""
    draws, found = np.random.default_rng(0), []
    for seed in range(2):
        batches = draws.uniform(1, 2, (12, 2))
        factors = np.stack([np.linspace(0.8, 1.0 + 0.1 * seed, 12), np.full(12, 1.1)], axis=1)
        found.append({"baseline": fake(batches), "penalty": fake(batches * factors, log_every=4)})
    return found


def test_the_change_is_paired_by_batch_at_the_steps_both_record(seeds):
    steps, change = change_along(seeds, "penalty", "baseline")
    assert steps.tolist() == [0, 4, 8, 11]
    for seed in range(2):
        assert change[seed, :, 0] == pytest.approx(np.linspace(0.8, 1.0 + 0.1 * seed, 12)[steps] - 1)
    assert change[:, :, 1] == pytest.approx(0.1)


def test_early_and_late_are_the_first_and_the_last_fifth(seeds):
    early, late = early_and_late(seeds, "penalty")  # steps 0 and 11 alone lie in them
    assert early == pytest.approx(np.array([[-0.2, 0.1], [-0.2, 0.1]]))
    assert late == pytest.approx(np.array([[0.0, 0.1], [0.1, 0.1]]))


def test_the_step_before_which_nothing_differs_does_not_count(seeds):
    recorded = [{name: fake(run.series("loss")[1]) for name, run in one.items()} for one in seeds]
    for one in recorded:
        one["penalty"] = fake(one["baseline"].series("loss")[1] * np.array([1.0, 1.2, 1.4] + [1.1] * 9)[:, None])
    early, _ = early_and_late(recorded, "penalty")  # steps 1 and 2
    assert early == pytest.approx(np.full((2, 2), 0.3))


def test_of_one_step_the_first_is_the_last():
    one = {name: fake(np.array([[loss, 1.0]])) for name, loss in (("baseline", 1.0), ("penalty", 1.5))}
    early, late = early_and_late([one], "penalty")
    assert early.tolist() == late.tolist() == [[0.5, 0.0]]


def test_the_figure_draws_each_k_and_the_mean(seeds):
    plot = changes.change_over_training(seeds, "penalty")
    at = plot.data.pivot(index="samples", columns="line", values="change in %")
    assert at.index.tolist() == [10, 50, 90, 120]
    assert at["k = 4"].to_numpy() == pytest.approx(10)
    assert at["mean over k"].to_numpy() == pytest.approx((at["k = 2"] + at["k = 4"]).to_numpy() / 2)
    assert "k = 2 from -20 % to +5 %" in plot.alt
