"""The end-to-end experiment on the embedded model: what is shared, kept, refused, resumed."""

import contextlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mfrbook.chapters.end_to_end import comparison, pareto, plan, tables
from mfrbook.chapters.end_to_end import runs as end_to_end
from mfrbook.chapters.end_to_end.sizes import narrow as end_to_end_narrow
from mfrbook.experiments import planned
from mfrbook.experiments.evidence import Evidence, Untested
from mfrbook.experiments.model_and_text import Opened
from mfrbook.ledger.measures import MEASURES
from mfrbook.store.store import Store
from mfrlib.config import ConfigError
from mfrlib.data.text.sequences import Sequences
from mfrlib.language_models.tokens import identity_of_sequences
from mfrlib.method.penalty import mutual_feature_penalty
from mfrlib.randomness import WEIGHTS, generator
from mfrlib.training.loop import train

TINY = {
    "steps": 3,
    "n_features": 48,
    "n_held_out": 2,
    "n_usage": 3,
    "sparsity": [0.5, 2.0],
    "local_sparsity": [0.1, 0.3, 1.0],
}


@pytest.fixture(scope="module", autouse=True)
def place(tiny_lm):
    """Model and text; the text needs no docstrings of other packages."""

    def open_model_and_text(model, text, *, n_train, n_held_out, length, bos, device):
        def draw(split, n):
            tokens = np.random.default_rng(split == "train").integers(1, tiny_lm.vocabulary, size=(n, length))
            tokens[:, 0] = tiny_lm.bos
            return Sequences(tokens.astype(np.uint16), identity_of_sequences("tiny-lm", text, split), bos, 1)

        return Opened(tiny_lm, draw("train", n_train), draw("held-out", n_held_out))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(end_to_end, "open_model_and_text", open_model_and_text)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def runs(folder, place):
    """The four conditions, trained once for all tests of the module, which change nothing in them."""
    store, found = Store(folder), plan.conditions("smoke", TINY)
    return {name: end_to_end.run(config, store, progress=False) for name, config in found.items()}


def test_every_condition_has_its_measures(runs):
    assert list(runs) == ["local", "e2e", "downstream", "e2e-mfr"]
    for name, run in runs.items():
        n_saes = 3 if name == "local" else 2
        for key in ("ce_increase", "kl", "l0", "alive", "explained_variance"):
            assert len(run.results[key]) == n_saes, (name, key)
            assert all(math.isfinite(value) for value in run.results[key])
        assert run.arrays["rate"].shape == (n_saes, 48)
        np.testing.assert_array_equal((run.arrays["rate"] > 0).sum(1), run.results["alive"])
        assert run.weights["encoder"].shape == (n_saes, 48, 192)
        assert run.data_id == "lm:tiny-lm:python-docs:train"
        assert {"data_hash", "model_hash"} <= run.provenance.keys()


def test_what_is_compared_starts_alike_and_sees_the_same_text(runs):
    first = {name: run.metrics[0]["loss"] for name, run in runs.items()}
    assert first["e2e"] == first["e2e-mfr"]
    assert all(a < b for a, b in zip(first["e2e"], first["downstream"], strict=True))
    hashes = {run.provenance["data_hash"] for run in runs.values()}
    assert len(hashes) == 1
    assert runs["e2e"].results["ce"] == runs["local"].results["ce"]


def test_the_penalty_is_balanced_with_the_loss_it_starts_from(runs):
    penalised = runs["e2e-mfr"]
    config = end_to_end.of_run(penalised)
    start = config.new_stack(192, generator(config.seed, WEIGHTS, 0))
    expected = np.mean(penalised.metrics[0]["loss"]) / mutual_feature_penalty(start.weight).item()
    assert penalised.results["alpha"] == pytest.approx(expected, rel=1e-4)
    assert runs["e2e"].results["alpha"] == 0


def test_sequences_of_training_are_measured_too_where_asked_for(tmp_path, runs):
    config = plan.conditions("smoke", {**TINY, "n_seen": 5})["local"]
    found = end_to_end.run(config, Store(tmp_path), progress=False)
    seen = found.results.pop("seen")
    assert found.results == runs["local"].results, "what is measured on held-out text does not change"
    assert seen.keys() == {"ce", "ce_increase", "kl", "l0", "explained_variance", "later"}
    assert seen["ce"] != found.results["ce"], "another text"
    assert "seen" not in runs["local"].results


def test_tokens_seen_leave_out_the_first(runs):
    assert runs["e2e"].results["samples"] == 3 * 1 * 127
    assert runs["e2e"].results["epochs"] == pytest.approx(3 / 64)


def test_a_stack_comes_back_from_its_run(runs):
    run = runs["e2e"]
    stack, config = end_to_end.stack_of(run), end_to_end.of_run(run)
    rates = end_to_end.usage(stack, end_to_end.opened(config), config)
    np.testing.assert_array_equal(rates.numpy(), run.arrays["rate"])


def test_stored_runs_are_found_again_without_a_model(folder, runs):
    for name, config in plan.conditions("smoke", TINY).items():
        found = end_to_end.run(config, Store(folder, trains=False))
        assert found.key == runs[name].key


def test_a_resumed_run_ends_with_the_same_bits(tmp_path, runs):
    config = replace(plan.conditions("smoke", TINY)["downstream"], checkpoint_every=1)
    place = end_to_end.opened(config)
    source = end_to_end.TokenBatches(place.train, 192, batch_size=1, seed=0)

    def objective(after):
        plain = end_to_end.objective(config, place.model)
        calls = []

        def one(sae, tokens):
            calls.append(1)
            if len(calls) > after:
                raise InterruptedError
            return plain(sae, tokens)

        return one

    folder = tmp_path / "unfinished"
    with pytest.raises(InterruptedError):
        train(config, source, folder=folder, objective=objective(2), progress=False)
    resumed = train(config, source, folder=folder, objective=objective(99), progress=False)
    for name, value in resumed.sae.named_parameters():
        assert torch.equal(value, runs["downstream"].weights[name]), name


def test_topk_saes_take_the_same_way(tmp_path):
    found = plan.conditions("smoke", {**TINY, "sparsity": None, "local_sparsity": None, "sae": "topk", "k": [3, 5]})
    for config in found.values():
        run = end_to_end.run(config, Store(tmp_path), progress=False)
        assert run.results["l0"] == pytest.approx([3, 5], rel=0.2)  # ReLU may cut one of the k
        assert set(run.weights) == {"weight", "bias"}


@pytest.mark.parametrize(
    ("model", "hook", "text", "n_features", "length"),
    [
        ("gpt2", "blocks.6.hook_resid_pre", "Skylion007/openwebtext", 46_080, 1024),
        ("tiny-lm", "blocks.1.hook_resid_pre", "python-docs", 3072, 128),
    ],
)
def test_what_depends_on_the_model_follows_it(model, hook, text, n_features, length):
    config = end_to_end.configure({"model": model}, "published")
    assert (config.hook, config.text, config.n_features, config.length) == (hook, text, n_features, length)
    assert (
        end_to_end.configure({"model": model, "hook": "blocks.0.hook_mlp_out"}, "published").hook
        == "blocks.0.hook_mlp_out"
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"objective": "global"}, "objective"),
        ({"sae": "gated"}, "sae"),
        ({"sparsity": [1.0, 2.0]}, "n_saes = 1"),
        ({"sparsity": -1.0}, "sparsity"),
        ({"p": 0}, "p: must be above 0"),
        ({"length": 2}, "length"),
        ({"n_held_out": 0}, "n_held_out"),
        ({"learning_rate_end": 1.5}, "learning_rate_end"),
        ({"downstreem": 1.0}, "downstream"),
    ],
)
def test_impossible_values_are_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        end_to_end.configure(values, "smoke")


@pytest.mark.parametrize(
    ("values", "said"), [({"alpha": 0}, "alpha"), ({"n_seeds": 0}, "n_seeds"), ({"local_sparsity": [-1.0]}, "sparsity")]
)
def test_notebook_parameters_no_run_could_have_are_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        planned.plan(["end-to-end"], {"profile": "smoke", **values})


def test_a_path_of_this_machine_is_not_kept(tmp_path):
    (tmp_path / "text.txt").write_text("words")
    config = replace(plan.conditions("smoke", TINY)["local"], text=str(tmp_path / "text.txt"))
    run = end_to_end.run(config, Store(tmp_path), progress=False)
    assert str(tmp_path) not in json.dumps([run.config, run.data_id, run.provenance])


class TestWhatIsMadeOfRuns:
    def test_measures_have_a_number_a_seed_or_a_reason_and_tables_are_whole(self, folder, runs, monkeypatch):
        monkeypatch.setenv("MFR_CACHE", str(folder))
        plan.collect("smoke", 3, TINY)
        end_to_end_narrow.collect("smoke", 3, TINY)
        evidence = Evidence("smoke", {"n_seeds": 3, **TINY})
        names = [name for name in MEASURES if name.startswith("e2e")]
        assert len(names) == 14
        for name in names:
            with contextlib.suppress(Untested):  # an SAE may lie beyond the local front
                assert np.isfinite(MEASURES[name](evidence)).sum() == 3, name
        assert evidence.samples("e2e_ce") == 3 * 127
        seeds = evidence.get("end-to-end")
        points, alike = pareto.points(seeds), comparison.likeness(seeds)
        assert len(points) == 3 * (3 + 2 + 2 + 2)
        assert len(tables.front(points)) == 9
        assert len(tables.comparison(points)) == 8
        assert len(tables.cost_of_penalty(points)) == 2
        assert (alike["MMCS"] >= alike["matched cosine"]).all()
        values = tables.values(seeds, points, alike)
        json.dumps(values, allow_nan=False)
        assert {"e2e_l0", "downstream_ce", "local_across_seeds", "mfr_within_a_stack_chance"} <= values.keys()
