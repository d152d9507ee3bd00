from types import SimpleNamespace

import pytest
import torch

from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.chapters.synthetic.questions import coverage, groups
from mfrbook.chapters.synthetic.questions import figures as question_figures
from mfrbook.chapters.synthetic.questions import runs as questions
from mfrbook.chapters.synthetic.questions import tables as question_tables
from mfrbook.experiments.evidence import Evidence
from mfrbook.experiments.planned import plan
from mfrbook.ledger import measures
from mfrlib.method.penalty import mutual_feature_penalty

SHORT = {"steps": 6, "batch_size": 50}


def test_every_question_has_its_runs():
    chosen = [(row.question, row.choice, row.run.config) for row in questions.asked("published", None, {})]
    assert len([1 for question, _, _ in chosen if question == questions.MANY]) >= 30  # S4
    assert {config.n_saes for question, _, config in chosen if question == questions.SAES} == {2, 3, 5, 8}  # Q5
    main = synthetic.configure({}, "published")
    for question, choice, config in chosen:
        if question in (questions.CENTRED, questions.SWITCHES):  # Q9 and Q10, beside the main runs
            assert (config.n_features, config.d_in) == (main.n_features, main.d_in)
            assert config.steps == main.steps * (1.5 if choice == questions.LONGER else 1)
            times = (2.5 if choice == questions.PAIR else 1) / (10 if question == questions.SWITCHES else 1)
            assert config.batch_size == times * main.batch_size


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store that the module's tests share."""
    return str(tmp_path_factory.mktemp("questions"))


@pytest.fixture(scope="module", autouse=True)
def few_held_out_samples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "HELD_OUT_BATCHES", 1)
        yield


@pytest.fixture(scope="module")
def rows(store, few_held_out_samples):
    """The questions' runs, of few steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MFR_CACHE", store)
        return questions.collect("smoke", values=SHORT)


@pytest.fixture(autouse=True)
def shared_store(store, own_store, monkeypatch):
    monkeypatch.setenv("MFR_CACHE", store)


@pytest.mark.slow
def test_what_is_planned_is_what_is_collected(rows):
    planned = {one.key for one in plan(["groups", "questions"], {"profile": "smoke", **SHORT})}
    shown = [*rows, *groups.collect("smoke", values=SHORT)]
    assert {row.run.key for row in shown} == planned
    main = plan(["synthetic"], {"profile": "smoke", **SHORT})
    assert {one.key for one in main if one.config.reinit == "off" and one.config.seed == 0} <= planned, (
        "without a cure they are the main runs"
    )


@pytest.mark.slow
def test_tables_and_measures_agree(rows):
    table = question_tables.by_number(rows)
    assert len(table) == len(questions.NUMBERS) * len(questions.PENALTIES)
    evidence, gain = Evidence("smoke"), table.pivot(index="SAEs", columns="condition", values="mmcs_input")
    evidence.runs["questions"] = rows
    for measure, condition in (
        (measures.questions.questions_number, "penalty"),
        (measures.questions.questions_number_pull, "penalty, equal pull"),
    ):
        change = gain[condition] - gain["baseline"]
        assert measure(evidence) == pytest.approx([change[8] - change[2]])
    sizes = question_figures.cluster_sizes(rows).data["SAEs"].sum()
    assert sizes == 2 * questions.MANY_RUNS["smoke"]
    cures = question_tables.cures(rows)
    assert set(cures["choice"]) == set(questions.CURES)


def test_the_pull_on_one_sae_falls_with_their_number_unless_alpha_makes_up_for_it(draws):
    own, other = torch.randn(2, 20, 8, generator=draws)
    pulls = {"penalty": [], "penalty, equal pull": []}
    for n_saes in questions.NUMBERS:
        stack = torch.stack([own, *[other] * (n_saes - 1)]).requires_grad_()
        (gradient,) = torch.autograd.grad(mutual_feature_penalty(stack), stack)
        for name, found in pulls.items():
            found.append(questions.PENALTIES[name](n_saes) * gradient[0].norm().item())
    assert pulls["penalty"] == pytest.approx([pulls["penalty"][0] * 2 / n for n in questions.NUMBERS])
    assert pulls["penalty, equal pull"] == pytest.approx([pulls["penalty"][0]] * len(questions.NUMBERS))


def test_the_sae_that_started_again_most_is_named_with_what_it_found():
    def row(choice, seed, events, recovered):
        run = SimpleNamespace(results={"events": events, "recovered": recovered}, config={"n_saes": 2, "steps": 100})
        return questions.Row(questions.CENTRED, choice, 2, seed, run)

    rows = [
        row("baseline", 0, [[1, 0]] * 5, [0.9, 0.9]),
        row(questions.CUBE, 0, [[4, 1]], [0.8, 0.7]),
        row(questions.CUBE, 1, [[3, 0], [9, 1], [12, 0], [95, 1], [96, 1]], [0.5, 0.25]),
    ]
    found = {"restarts": 3, "last_restart": 96, "of_steps": 100, "restarted_recovered": 0.25}
    assert question_tables.restarts(rows) == found
    assert question_tables.restarts([row(questions.CUBE, 0, [], [0.8, 0.7])]) == {}


@pytest.mark.parametrize(("n_saes", "share"), [(2, 128 / 1000), (5, 4 * 128 / 1000)])
def test_the_penalty_costs_products_for_every_pair(n_saes, share):
    config = {"n_saes": n_saes, "n_features": 128, "batch_size": 500, "alpha": 3.0}
    products = n_saes * (n_saes - 1) / 2 * 128 * 128 / (n_saes * 500 * 128)  # per dimension
    assert question_tables.penalty_cost(config) == pytest.approx(products) == pytest.approx(share)


def test_runs_are_read_never_made_for_the_published_book(tmp_path):
    with pytest.raises(LookupError, match="not in the archive"):
        questions.collect("published", 1, {"steps": 7}, trains=False)


@pytest.mark.slow
def test_every_run_of_q9_and_q10_is_covered(rows):
    covered = coverage.collect("smoke", values=SHORT)
    asked = list(questions.compared("smoke", None, SHORT))
    assert [(row.question, row.choice, row.seed) for row in covered] == [
        (one, choice, config.seed) for one, choice, config in asked
    ]
    planned = {one.key for one in plan(["questions", "coverage"], {"profile": "smoke", **SHORT})}
    assert {row.run.key for row in [*rows, *covered]} == planned
    tables = [question_tables.together(rows, covered, one) for one in (questions.CENTRED, questions.SWITCHES)]
    table = question_tables.by_samples(*tables)
    assert not table.duplicated(["choice", "samples", "seed"]).any()
    assert (table["every"] <= table["each"]).all()
    assert (table["each"] <= table["any"]).all()
    plot = question_figures.answer(tables[0])
    assert list(plot.data["choice"]) == list(questions.CURES)
    for choice in questions.CURES:
        said = f"{question_figures.NAMES.get(choice, choice)}, by the two together: 0.000 (1 seeds)"
        assert said in plot.alt, "after so few steps nothing is found"
