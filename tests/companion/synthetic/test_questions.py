import pytest
import torch

from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.chapters.synthetic.questions import figures as question_figures
from mfrbook.chapters.synthetic.questions import groups
from mfrbook.chapters.synthetic.questions import runs as questions
from mfrbook.chapters.synthetic.questions import tables as question_tables
from mfrbook.experiments.evidence import Evidence
from mfrbook.ledger import measures
from mfrlib.method.penalty import mutual_feature_penalty


def test_every_question_has_its_runs():
    chosen = list(questions._choices("published", None, {}))
    assert len([1 for question, _, _ in chosen if question == questions.MANY]) >= 30  # S4
    assert {config.n_saes for question, _, config in chosen if question == questions.SAES} == {2, 3, 5, 8}  # Q5
    main = synthetic.configure({}, "published")
    for question, choice, config in chosen:
        if question in (questions.CENTRED, questions.SWITCHES):  # Q9 and Q10, beside the main runs
            assert (config.n_features, config.d_in) == (main.n_features, main.d_in)
            assert config.steps == main.steps * (1.5 if choice == questions.LONGER else 1)
            times = (2.5 if choice == questions.PAIR else 1) / (10 if question == questions.SWITCHES else 1)
            assert config.batch_size == times * main.batch_size


def test_what_is_planned_is_what_is_collected(tmp_path, monkeypatch):
    monkeypatch.setenv("MFR_CACHE", str(tmp_path))
    planned = {one.key for one in questions.plan({"profile": "smoke"})}
    rows = questions.collect("smoke")
    shown = [*rows, *groups.collect("smoke")]
    assert {row.run.key for row in shown} == planned
    table = question_tables.by_number(rows)
    assert len(table) == len(questions.NUMBERS) * len(questions.PENALTIES)
    evidence, gain = Evidence("smoke"), table.pivot(index="SAEs", columns="condition", values="mmcs_input")
    evidence._loaded["questions"] = rows
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
    main = synthetic.collect("smoke")[0]
    assert {main["baseline"].key, main["penalty"].key} <= planned, "without a cure they are the main runs"


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


@pytest.mark.parametrize(("n_saes", "share"), [(2, 128 / 1000), (5, 4 * 128 / 1000)])
def test_the_penalty_costs_products_for_every_pair(n_saes, share):
    config = {"n_saes": n_saes, "n_features": 128, "batch_size": 500, "alpha": 3.0}
    products = n_saes * (n_saes - 1) / 2 * 128 * 128 / (n_saes * 500 * 128)  # per dimension
    assert question_tables.penalty_cost(config) == pytest.approx(products) == pytest.approx(share)


def test_runs_are_read_never_made_for_the_published_book(tmp_path):
    with pytest.raises(LookupError, match="not in the archive"):
        questions.collect("published", 1, {"steps": 7}, trains=False)
