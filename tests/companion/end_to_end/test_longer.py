"""End-to-end SAEs at learning rates that were chosen, and on more tokens: what differs, what is archived, what is measured."""

from dataclasses import asdict

import pytest

from mfrbook.chapters.end_to_end import figures, measures, pareto, tables
from mfrbook.chapters.end_to_end import plan as end_to_end
from mfrbook.chapters.end_to_end.sizes import longer, rates, tuned
from mfrbook.experiments.evidence import Evidence, Untested
from mfrbook.experiments.planned import plan
from mfrbook.store.runs import Run
from mfrlib.config import ConfigError


def differing(one, other):
    one, other = asdict(one), asdict(other)
    return {name for name in one if one[name] != other[name]}


OBJECTIVES = tuple(rates.CHOSEN[1])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_trials_differ_from_the_chapter_s_runs_in_their_learning_rate_alone(objective):
    chapter = end_to_end.conditions("published", {"seed": 0})[objective]
    assert chapter.learning_rate == rates.RATES[1][0]
    for rate in rates.RATES[1]:
        assert differing(chapter, rates.config_of(objective, rate)) <= {"learning_rate", "n_seen"}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_longer_runs_differ_in_their_length_alone(objective):
    short, long = (rates.config_of(objective, 0.01, 3, times) for times in (1, rates.LONGER))
    assert differing(short, long) == {"steps", "learning_rate_warmup", "n_sequences"}
    assert long.steps / short.steps == long.learning_rate_warmup / short.learning_rate_warmup == rates.LONGER
    assert long.steps * long.batch_size == long.n_sequences, "no token is seen twice"


def test_a_name_that_is_none():
    with pytest.raises(ConfigError, match="did you mean 'downstream'"):
        rates.config_of("downstraem", 0.01)


def test_the_archive_holds_what_it_is_said_to_hold():
    for module, name in ((tuned, "end-to-end-tuned"), (longer, "end-to-end-longer")):
        assert len(module.collect("published", trains=False)) == module.ARCHIVED_SEEDS
        assert plan([name], {"profile": "quick"}) == []
    assert plan(["end-to-end-rates"], {"profile": "quick"}) == []


def test_the_rates_chosen_are_the_best_on_sequences_of_training():
    trials = rates.collect("published", trains=False)
    assert {times: rates.best(several) for times, several in trials.items()} == rates.CHOSEN


def stack(objective, ce, seen=None, seed=0, rate=0.01):
    results = {"l0": [4.0, 16.0, 64.0], "alive": [200] * 3, "ce_increase": ce, "kl": ce, "samples": 400}
    results |= {"explained_variance": [0.5] * 3, "later": {}}
    results |= {"seen": {**results, "ce_increase": seen}} if seen else {}
    return Run("end-to-end", {"seed": seed, "sae": "relu", "objective": objective, "sparsity": [1.0] * 3, "learning_rate": rate}, "test", results)  # fmt: skip


def test_a_rate_is_judged_on_what_was_trained_on_and_not_on_held_out_text():
    def trial(rate, seen, held_out=0.5):
        return {name: stack(name, [held_out] * 3, [seen, seen / 2, seen / 4], rate=rate) for name in OBJECTIVES}

    first, better, as_good, best, worse = (
        trial(1, 0.4, 0.1),
        trial(2, 0.2, 0.9),
        trial(3, 0.195),
        trial(4, 0.1),
        trial(5, 0.8, 0.1),
    )
    assert rates.saved(first["local"], better["local"]) == pytest.approx(0.5)
    assert rates.saved(first["local"], worse["local"]) == pytest.approx(-1)
    assert rates.best([first, better, as_good, worse]) == dict.fromkeys(OBJECTIVES, 2)
    assert rates.best([first, better, best, worse]) == dict.fromkeys(OBJECTIVES, 4)
    assert rates.best([first, worse, better]) == dict.fromkeys(OBJECTIVES, 1)
    table = tables.rates({1: [first, better], 4: [worse]})
    assert table["Local"].tolist() == ["–", "+50 %", "–"]
    assert table["learning rate"].tolist() == ["1", "2", "5"]


def runs(saved, seed=0):
    """Return a seed whose end-to-end SAEs save a share of the local ones' rise of the CE."""
    local = [0.4, 0.2, 0.1]
    treated = [(1 - saved) * one for one in local]
    return {name: stack(name, local if name == "local" else treated, seed=seed) for name in OBJECTIVES}


@pytest.fixture
def evidence():
    found = Evidence("published")
    found.runs |= {"end-to-end-tuned": [runs(0.2), runs(0.5, seed=1)], "end-to-end-longer": [runs(0.3)]}
    return found


def test_the_gain_with_more_tokens_is_held_against_that_of_the_same_seed(evidence):
    assert measures.longer_gain(evidence) == pytest.approx([0.1])
    assert measures.MEASURES["longer_e2e_ce"](evidence) == pytest.approx([0.3 * (0.4 + 0.2 + 0.1) / 3])
    assert measures.MEASURES["tuned_e2e_ce"](evidence) == pytest.approx(
        [share * (0.4 + 0.2 + 0.1) / 3 for share in (0.2, 0.5)]
    )
    assert measures.MEASURES["longer_downstream_ce"](evidence) == measures.MEASURES["longer_e2e_ce"](evidence)
    assert measures.MEASURES["tuned_downstream_ce"](evidence) == measures.MEASURES["tuned_e2e_ce"](evidence)


def test_without_runs_a_claim_is_not_tested_and_says_why():
    with pytest.raises(Untested, match="in the published archive alone"):
        measures.longer_gain(Evidence("quick"))


def test_the_table_and_the_figure_say_what_was_saved(evidence):
    before, after = (pareto.points(evidence.runs[name]) for name in ("end-to-end-tuned", "end-to-end-longer"))
    table = tables.with_more_tokens(before[:9], after).set_index(["SAE", "gain over local"])
    row = table.loc[("End-to-end", "CE increase less at equal L0, share")]
    assert [row[name].middle for name in ("before", "after", "difference")] == pytest.approx([0.2, 0.3, 0.1])
    plot = figures.gains({"few": before, "more": after})
    assert plot.sees.startswith("Least is saved by End-to-end, more: 30 %. Most is saved by End-to-end")
