from types import SimpleNamespace

import numpy as np
import pytest

from mfrbook.chapters.end_to_end import measures as end_to_end_measures
from mfrbook.chapters.synthetic import measures as synthetic_measures
from mfrbook.chapters.synthetic import reading_measures
from mfrbook.chapters.synthetic.questions import group_measures, groups, measures
from mfrbook.chapters.synthetic.questions import runs as questions
from mfrbook.chapters.synthetic.readings import Row
from mfrbook.chapters.synthetic.starts import kinds
from mfrbook.drawing.statistics import interval
from mfrbook.experiments.evidence import Untested
from mfrbook.ledger import costs as cost_measures


class Fake:
    """A run with given results, config and early records."""

    def __init__(self, results, config=None, inactivity=0.5):
        self.results, self.config, self.early = results, {"reinit_window": 100} | (config or {}), inactivity

    def series(self, name):
        return np.array([0, 50]), np.array([self.early, self.early])


class FakeEvidence:
    def __init__(self, **found):
        self.found = found

    def get(self, name):
        return self.found[name]


def many(sizes, early=None):
    rows = [
        questions.Row(
            questions.MANY, "baseline", 1, i, Fake({"cluster": [size]}, inactivity=[early[i] if early else 0.5])
        )
        for i, size in enumerate(sizes)
    ]
    return FakeEvidence(questions=rows)


def test_two_sizes_are_told_from_one_spread():
    draws = np.random.default_rng(0)
    assert measures.explained_by_two([5, 15, 15, 5]) == 1
    assert measures.explained_by_two(draws.normal(size=100_000)) == pytest.approx(2 / np.pi, abs=0.01)
    assert measures.explained_by_two(draws.uniform(size=100_000)) == pytest.approx(3 / 4, abs=0.01)
    two = interval(np.array(measures.questions_binary(many(draws.choice([5, 15], 40) + draws.normal(0, 0.5, 40)))))
    one = interval(np.array(measures.questions_binary(many(draws.normal(10, 2, 40)))))
    assert two[1] > 0 > one[1]


def test_the_distribution_needs_thirty_runs():
    with pytest.raises(Untested, match="30 runs or more is needed; there are 6"):
        measures.questions_binary(many([5, 15] * 3))


@pytest.mark.parametrize("sizes", [[0.0] * 30, [0.0] * 29 + [0.5]])
def test_clusters_that_never_differ_are_no_two_sizes(sizes):
    with pytest.raises(Untested, match="same size in all runs but one"):
        measures.questions_binary(many(sizes))


def test_the_correlation_of_few_runs_without_one_is_seldom_taken_for_one():
    draws, n = np.random.default_rng(0), 400
    sizes, early = draws.normal(10, 2, (n, 5)), draws.normal(0.8, 0.02, (n, 5))
    lows = [
        interval(np.array(measures.questions_early(many(*pair))))[1] for pair in zip(sizes, early.tolist(), strict=True)
    ]
    assert np.mean(np.array(lows) > 0) < 0.05, "one-sided, the rule's own is 0.025"


def test_early_inactivity_is_correlated_with_the_cluster():
    draws = np.random.default_rng(1)
    sizes = draws.normal(10, 2, 30)
    found = measures.questions_early(many(sizes, list(sizes / 20 + draws.normal(0, 0.02, 30))))
    assert 0.8 < np.tanh(np.mean(found)) < 1.0
    with pytest.raises(Untested, match="differ in size"):
        measures.questions_early(many([3.0] * 30))


def test_of_the_cluster_the_dead_and_the_live_are_counted_apart():
    plain, penalised = (
        Fake({"cluster": [5, 7], "cluster_dead": [4, 4]}),
        Fake({"cluster": [9, 9], "cluster_dead": [3, 4]}),
    )
    found = SimpleNamespace(seeds=[{"baseline": plain, "penalty": penalised}])
    assert synthetic_measures.cluster_removed(found) == [-3]
    assert synthetic_measures.cluster_dead_removed(found) == [0.5]
    assert synthetic_measures.cluster_live_removed(found) == [-3.5]


def test_a_cluster_of_pairs_is_alike_across_and_unlike_the_input_and_told_apart_by_kind():
    run = Fake({})
    run.arrays = {
        "rate": np.array([[0.95, 0.1, 0.1], [0.3, 0.2, 0.1]]),
        "across": np.array([[0.9, 0.9, 0.1], [0.71, 0.69, 0.9]]),
        "input": np.array([[0.1, 0.5, 0.1], [0.3, 0.1, 0.3]]),
    }
    found = SimpleNamespace(seeds=[{"baseline": run}])
    assert (kinds.cluster_pairs_with(found), kinds.cluster_pairs_without(found)) == ([1.0], [2.0])


@pytest.mark.parametrize(("cross", "expected"), [(0.2, 0.0), (0.15, 0.05), (0.25, -0.05)])
def test_instability_alone_does_not_make_two_kinds_of_features_different(cross, expected):
    arrays = {"local local": 0.4, "e2e e2e": 0.1, "e2e local": cross}
    likeness = SimpleNamespace(arrays={name: np.full((4, 4), value) for name, value in arrays.items()})
    found = FakeEvidence(**{"end-to-end-likeness": SimpleNamespace(own=likeness)})
    assert end_to_end_measures.e2e_difference(found) == pytest.approx([expected] * 4)


def test_groups_are_compared_seed_by_seed():
    rows = [
        groups.Row(condition, seed, Fake({"mmcs_between": base + seed, "mmcs_input": base}))
        for condition, base in (
            ("baseline", 0.5),
            ("penalty", 0.4),
            ("penalty, Hungarian", 0.7),
            ("penalty as printed", 0.55),
            ("centred data", 0.8),
            ("baseline, longer", 0.6),
        )
        for seed in (1, 0)
    ]
    found = FakeEvidence(groups=rows)
    assert group_measures.groups_between(found) == pytest.approx([-0.1, -0.1])
    assert group_measures.groups_hungarian(found) == pytest.approx([0.2, 0.2])
    assert group_measures.groups_sum(found) == pytest.approx([0.05, 0.05])
    assert group_measures.groups_centring(found) == pytest.approx([0.3, 0.3])
    assert group_measures.groups_input(found) == pytest.approx([-0.2, -0.2])


def test_what_groups_find_and_share_is_measured_by_hand():
    """Two groups of two SAEs of two features, on three features of the input."""

    def run(second):
        best = np.array([[[0.95, 0.1, 0.1], [0.1, second, 0.1]], [[0.95, 0.1, 0.1], [0.95, 0.1, 0.1]]])
        arrays = {"best": best, "input_max": np.array([0.95, 0.1] * 4).reshape(2, 2, 2)}
        arrays |= {"within_max": np.full((2, 2, 2), 0.9), "between_max": np.array([0.9, 0.2] * 4).reshape(2, 2, 2)}
        return SimpleNamespace(arrays=arrays)

    rows = [groups.Row(name, seed, run(second)) for name, second in
            (("baseline", 0.9), ("penalty", 0.2), ("penalty, Hungarian", 0.95)) for seed in (1, 0)]  # fmt: skip
    found = FakeEvidence(groups=rows)
    assert group_measures.groups_together(found) == pytest.approx([-1 / 6] * 2)
    assert group_measures.groups_together_hungarian(found) == pytest.approx([0, 0])
    assert (
        group_measures.groups_truer(found) == group_measures.groups_truer_hungarian(found) == pytest.approx([0.5, 0.5])
    )


def cured(fewer):
    """Runs of Q9 and Q10, whose results tell choice, seed and number of samples."""
    choices = [one for one in questions.SWITCHED if one != questions.SUMMED]
    place = {choice: 0.1 * n for n, choice in enumerate([*choices, questions.CUBE])} | {questions.SUMMED: 0.0}
    return [
        questions.Row(
            question, choice, 2, seed,
            Fake({"mmcs_input": [more + place[choice] + seed * 0.01], "loss": [1 - place[choice]], "r": -place[choice],
                  "cluster": [20 - 10 * place[choice]], "samples": n}),
        )
        for question, choices, n, more in (
            (questions.CENTRED, questions.CURES, 1000, 0.05),
            (questions.SWITCHES, questions.SWITCHED, fewer, 0),
        )
        for choice in choices
        for seed in (1, 0)
    ]  # fmt: skip


def test_cures_and_switches_are_compared_seed_by_seed():
    found = FakeEvidence(questions=cured(fewer=100))
    assert measures.questions_centring(found) == pytest.approx([0.6, 0.6])
    assert measures.questions_centring_or_penalty(found) == pytest.approx([0.3, 0.3])
    assert measures.questions_cube(found) == pytest.approx([0.9, 0.9])
    assert measures.questions_cube_cluster(found) == pytest.approx([9, 9])
    assert measures.questions_cube_loss(found) == pytest.approx([0.9, 0.9])
    assert measures.questions_samples(found) == pytest.approx([0.05, 0.05])
    assert measures.questions_sum(found) == pytest.approx([0.4, 0.4])
    assert measures.questions_one_to_one(found) == pytest.approx([0.5, 0.5])
    assert measures.questions_one_to_one_tenth(found) == pytest.approx([0.5, 0.5])
    assert measures.questions_one_to_one_loss(found) == pytest.approx([0.5, 0.5])
    assert measures.questions_one_to_one_longer(found) == pytest.approx([0.4, 0.4])
    assert measures.questions_one_to_one_pair(found) == pytest.approx([0.3, 0.3])
    assert measures.questions_one_to_one_pair_loss(found) == pytest.approx([1 - 0.5 / 0.8] * 2)
    assert measures.questions_one_to_one_longer_loss(found) == pytest.approx([1 - 0.5 / 0.9] * 2)
    assert measures.questions_centred_sum(found) == pytest.approx([0.1, 0.1])
    assert measures.questions_centred_one_to_one(found) == pytest.approx([0.2, 0.2])


def test_what_runs_find_together_is_compared_seed_by_seed():
    rows = [
        row._replace(run=Fake({"any": row.run.results["mmcs_input"][0] / 2, "samples": 1})) for row in cured(fewer=100)
    ]
    found = FakeEvidence(coverage=rows)
    assert measures.coverage_one_to_one(found) == pytest.approx([0.25, 0.25])
    assert measures.coverage_centred_one_to_one(found) == pytest.approx([0.1, 0.1])


def test_what_agreement_is_worth_is_the_share_of_true_features_among_those_shared():
    alike = np.array([[0.95, 0.9, 0.2, 0.99]])
    true = {"baseline": [[0.95, 0.1, 0.95, 0.9]], "penalty, α = 3": [[0.1, 0.1, 0.95, 0.1]],
            questions.ONE_TO_ONE: [[0.9, 0.9, 0.1, 0.9]], "centred data": [[0.1, 0.1, 0.1, 0.95]]}  # fmt: skip

    def row(choice, across, cosines):
        arrays = {"across_max": across, "input_max": np.array(cosines)}
        return questions.Row(questions.CENTRED, choice, 2, 0, SimpleNamespace(arrays=arrays))

    found = FakeEvidence(questions=[row(choice, alike, cosines) for choice, cosines in true.items()])
    assert measures.MEASURES["questions_shared"](found) == pytest.approx([2 / 3])
    assert measures.MEASURES["questions_true"](found) == [3 / 4]
    assert measures.MEASURES["questions_true_one_to_one"](found) == [3 / 4]
    assert measures.MEASURES["questions_shared_penalty"](found) == [0]
    assert measures.MEASURES["questions_shared_one_to_one"](found) == [1]
    assert measures.MEASURES["questions_shared_centred"](found) == pytest.approx([1 / 3])
    with pytest.raises(Untested, match="share no feature"):
        measures.MEASURES["questions_shared"](FakeEvidence(questions=[row("baseline", 0.8 * alike, alike)]))


def test_one_number_of_samples_does_not_say_what_more_do():
    with pytest.raises(Untested, match="one number of samples"):
        measures.questions_samples(FakeEvidence(questions=cured(fewer=1000)))


def test_costs_are_told_with_their_hardware():
    with pytest.raises(Untested, match=r"minutes for 10,000 steps of 1 SAE, on \d+ cores of "):
        cost_measures.cost_synthetic(FakeEvidence())
    with pytest.raises(Untested, match=r"of 5 SAEs, with the penalty \d\.\d times as long over a whole training, on "):
        cost_measures.cost_gpt2(FakeEvidence())


def test_what_the_released_codes_penalty_does_is_told_by_autoencoder():
    found = [("released-oct24", 0.0, [0.8, 0.5]), ("released-oct24", 3.0, [0.7, 0.75]), ("one-group", 3.0, [0.1, 0.1])]
    rows = [
        Row(
            "R1",
            f"{preset}, α = {alpha:g}",
            seed,
            Fake({"mmcs_input": [one + seed / 8 * bool(alpha) for one in values]}, {"alpha": alpha}),
        )
        for seed in range(2)
        for preset, alpha, values in found
    ]
    rows.append(Row("R9", "max, α = 3", 0, Fake({"mmcs_input": [0.9, 0.9]}, {"alpha": 3.0})))
    evidence = FakeEvidence(readings=rows)
    assert reading_measures.readings_released_first(evidence) == pytest.approx([-0.1, 0.025])
    assert reading_measures.readings_released_second(evidence) == pytest.approx([0.25, 0.375])
