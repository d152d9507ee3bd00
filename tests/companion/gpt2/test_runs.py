"""The language-model experiment on a model trained in seconds, its controls, tables and measures."""

import itertools
import json
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mfrbook.chapters.gpt2 import controls as gpt2_controls
from mfrbook.chapters.gpt2 import figures as gpt2_figures
from mfrbook.chapters.gpt2 import measures, warm_up
from mfrbook.chapters.gpt2 import runs as gpt2
from mfrbook.chapters.gpt2 import tables as gpt2_tables
from mfrbook.experiments.conditions import plan_conditions
from mfrbook.experiments.controls import equal_compute
from mfrbook.experiments.evidence import Evidence, Untested
from mfrbook.experiments.planned import collected, plan, reaches_threshold
from mfrbook.store.runs import describe_config, run_key
from mfrbook.store.store import Store
from mfrlib.config import ConfigError
from mfrlib.language_models.language_model import LanguageModelError
from mfrlib.method.penalty import mutual_feature_penalty
from mfrlib.method.similarity import mmcs
from mfrlib.models.sae import TopKSAE
from mfrlib.randomness import WEIGHTS, generator
from mfrlib.training.config import TrainingConfig

pytest.importorskip("transformer_lens")

SIZES = {"steps": 8, "batch_size": 48, "n_features": 40, "n_saes": 3, "k": [2, 4, 6], "length": 16, "warmup": 2}
TEXT = "Return the sum of the elements of an array along an axis.\n<|endoftext|>\n"


@pytest.fixture(scope="module")
def tiny(small_lm_folder, tmp_path_factory):
    """The values of a config of milliseconds, on real text of its own."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"Number {i}. {TEXT}" for i in range(300)))
    return {**SIZES, "model": str(small_lm_folder), "text": str(path), "n_sequences": 64, "n_held_out": 8,
            "n_inserted": 4, "device": "cpu"}  # fmt: skip


def planned_for(values):
    return plan(["gpt2", "gpt2-controls"], values)


def four(values, place):
    config = gpt2.configure(values, "smoke")
    return collected(plan_conditions("gpt2", config, "calibrate", gpt2.data_id(config)), Store(place))


@pytest.fixture(scope="module")
def pair(tiny, tmp_path_factory):
    return four(tiny, tmp_path_factory.mktemp("pair"))


class TestSizes:
    def test_on_gpt2_the_paper_s_profile_is_the_paper_s_size(self):
        config = gpt2.configure({"model": "gpt2"}, "published")
        assert config == gpt2.GPT2Config()
        assert (config.n_features, config.k, config.batch_size) == (3072, (6, 12, 18, 24, 30), 500)
        assert config.steps * config.batch_size == gpt2.PAPER_SAMPLES == 2_000_000
        assert config.n_sequences * (config.length - config.bos) >= gpt2.PAPER_SAMPLES
        assert (config.warmup, config.learning_rate, config.calibration) == (100, 0.001, "balance")

    def test_on_the_embedded_model_it_is_what_was_published(self):
        config = gpt2.configure({}, "published")
        assert (config.model, config.n_features, config.k) == ("tiny-lm", 768, (2, 3, 5, 6, 8))
        assert config.steps * config.batch_size == gpt2.PAPER_SAMPLES
        assert config.n_sequences * (config.length - config.bos) >= config.steps * config.batch_size
        assert (config.warmup, config.learning_rate) == (100, 0.001)

    def test_k_keeps_the_paper_s_ratio_to_the_width(self):
        assert gpt2.scaled_k(768) == gpt2.PAPER_K
        assert gpt2.scaled_k(192) == (2, 3, 5, 6, 8)
        assert gpt2.scaled_k(64) == (1, 2, 3, 4, 5)

    @given(st.integers(1, 5000))
    def test_k_is_never_zero_and_never_twice_the_same(self, width):
        ks = gpt2.scaled_k(width)
        assert ks[0] >= 1
        assert all(a < b for a, b in itertools.pairwise(ks))

    def test_a_smaller_model_has_four_times_its_width(self, small_lm_folder):
        config = gpt2.configure({"model": str(small_lm_folder), "text": "sample"}, "quick")
        assert (config.n_features, config.k) == (4 * 32, gpt2.scaled_k(32))
        assert gpt2.configure({"model": str(small_lm_folder), "n_features": 99}, "quick").n_features == 99


class TestRun:
    def test_alpha_balances_loss_and_penalty_at_the_start(self, pair):
        start = TopKSAE(3, 32, 40, (2, 4, 6), generator=generator(0, WEIGHTS, 0))
        penalty, loss = mutual_feature_penalty(start.weight).item(), np.mean(pair["penalty"].metrics[0]["loss"])
        assert pair["penalty"].results["alpha"] * penalty == pytest.approx(loss, rel=1e-5)
        assert pair["baseline"].results["alpha"] == 0

    def test_conditions_start_alike_and_then_differ(self, pair):
        assert pair["baseline"].metrics[0]["loss"] == pair["penalty"].metrics[0]["loss"]
        assert pair["baseline"].results["loss"] != pair["penalty"].results["loss"]

    def test_results_hold_what_the_tables_show(self, pair):
        for run in pair.values():
            results, arrays = run.results, run.arrays
            assert results["l0"] == [2, 4, 6]
            assert results["held_out_tokens"] == 8 * 15
            assert results["samples"] == 8 * 48
            assert results["epochs"] == pytest.approx(results["samples"] / (64 * 15))
            assert arrays["ce"].shape == (3, 4)
            assert results["ce"] == pytest.approx(arrays["ce"].mean(1))
            assert results["ce_uniform"] == pytest.approx(np.log(300))
            expected = (results["ce_zero"] - results["ce"][1]) / (results["ce_zero"] - results["ce_unmodified"])
            assert results["recovered_zero"][1] == pytest.approx(expected)
            assert results["distance"][0] == 0

    def test_the_model_as_it_is_does_not_depend_on_the_saes(self, pair):
        for name in ("ce_unmodified", "ce_zero", "ce_mean"):
            np.testing.assert_array_equal(pair["baseline"].arrays[name], pair["penalty"].arrays[name])

    def test_the_identity_is_of_the_bytes_and_has_no_path(self, tiny, pair):
        config = gpt2.configure(tiny, "smoke")
        assert gpt2.data_id(config) == pair["baseline"].data_id
        assert re.fullmatch("lm:own:own:train:sha256:[0-9a-f]{16}", pair["baseline"].data_id)
        assert str(Path(tiny["text"]).parent) not in json.dumps(pair["baseline"].config)
        assert pair["baseline"].config["model"] == "small"

    def test_without_sequences_to_insert_in_nothing_is_inserted(self, tiny, tmp_path):
        run = gpt2.run(gpt2.configure({**tiny, "n_inserted": 0}, "smoke"), Store(tmp_path))
        assert "ce" not in run.results
        assert run.results["loss"]

    def test_an_untrained_block_is_another_network_for_each_seed(self, tiny, tmp_path):
        def loss(**values):
            return gpt2.run(gpt2.configure({**tiny, **values, "n_inserted": 0}, "smoke"), Store(tmp_path)).metrics[0]

        trained, *untrained = loss(), loss(weights="untrained-block"), loss(weights="untrained-block", seed=1)
        assert len({tuple(one["loss"]) for one in (trained, *untrained)}) == 3

    def test_consecutive_tokens_are_a_switch(self, tiny, tmp_path):
        shuffled, plain = (
            gpt2.run(gpt2.configure({**tiny, "n_inserted": 0, "shuffle": one}, "smoke"), Store(tmp_path))
            for one in (True, False)
        )
        assert shuffled.key != plain.key
        assert shuffled.metrics[0]["loss"] != plain.metrics[0]["loss"]


class TestChangedData:
    def test_another_text_of_the_same_name_is_another_run(self, tiny, tmp_path):
        text = shutil.copy(tiny["text"], tmp_path)
        store, config = Store(tmp_path / "runs"), gpt2.configure({**tiny, "text": text, "n_inserted": 0}, "smoke")
        first = gpt2.run(config, store)
        assert gpt2.run(config, store).provenance["finished"] == first.provenance["finished"]
        (tmp_path / "text.txt").write_text("".join(f"Other {i}. {TEXT}" for i in range(300)))
        second = gpt2.run(config, store)
        assert second.key != first.key
        assert second.provenance["data_hash"] != first.provenance["data_hash"]

    def test_another_model_of_the_same_name_is_another_run(self, tiny, tmp_path):
        folder = shutil.copytree(tiny["model"], tmp_path / "models" / "small")
        store = Store(tmp_path / "runs")
        config = gpt2.configure({**tiny, "model": str(folder), "n_inserted": 0}, "smoke")
        first = gpt2.run(config, store)
        assert first.key == gpt2.run(gpt2.configure({**tiny, "n_inserted": 0}, "smoke"), store).key  # the same bytes
        weights = load_file(folder / "model.safetensors")
        weights["transformer.ln_f.bias"] = weights["transformer.ln_f.bias"] + 1
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        second = gpt2.run(config, store)
        assert second.key != first.key
        assert second.provenance["model_hash"] != first.provenance["model_hash"]


class TestRestarts:
    def test_a_threshold_that_nothing_reaches_leaves_re_initialisation_out(self, tiny, tmp_path):
        runs = four({**tiny, "reinit_threshold": 50.0}, tmp_path)
        assert set(runs) == {"baseline", "penalty"}
        assert runs["baseline"].results["passing_starts"] == [1, 1, 1]

    def test_a_threshold_that_every_start_exceeds_does_so_too(self, tiny, tmp_path):
        runs = four({**tiny, "reinit_threshold": 0.01}, tmp_path)
        assert set(runs) == {"baseline", "penalty"}
        assert runs["baseline"].results["passing_starts"] == [0, 0, 0]

    def test_in_between_it_is_run(self):
        """Reached in the window, and not by every fresh start."""
        config = {"reinit_window": 3, "reinit_threshold": 1.0}
        for inactivity, passing, expected in (
            ((0.9, 1.1), 0.2, True),
            ((0.9, 1.1), 0.0, False),
            ((0.9, 0.8), 1.0, False),
        ):
            run = Fake(config, metrics=inactivity, passing_starts=[1.0, passing])
            assert reaches_threshold(run) is expected


class TestPlanned:
    def test_sections_and_controls_runs_are_planned(self, tiny):
        values = {name: value for name, value in tiny.items() if name not in ("n_features", "n_saes", "k")}
        planned = planned_for({**values, "profile": "smoke", "n_seeds": 2})
        assert len(planned) == 2 * (4 + len(gpt2_controls.ROWS) + 2)

    def test_a_planned_run_can_be_computed_from_its_description(self, tiny):
        for one in planned_for({**tiny, "profile": "smoke"}):
            again = gpt2.configure(json.loads(json.dumps(describe_config(one.config))), "smoke")
            assert run_key("gpt2", again, gpt2.data_id(again)) == one.key


class TestControls:
    def test_equal_compute_by_hand(self):
        config = gpt2.GPT2Config()
        encode = 500 * (5 * 3072 + 4 * (6 + 12 + 18 + 24 + 30))  # multiplications per dimension
        assert equal_compute(config) == pytest.approx((encode + 10 * 3072**2) / encode)

    def test_each_row_changes_what_its_name_says(self, tiny):
        base = gpt2.configure({**tiny, "n_inserted": 0}, "smoke")
        plan = gpt2_controls.rows_of(base)
        changed = {
            name: {one.name for one in fields(base) if getattr(config, one.name) != getattr(base, one.name)}
            for name, config in plan.items()
        }
        assert changed == {
            "baseline": set(),
            "penalty": {"alpha"},
            "no warm-up": {"alpha", "warmup"},
            "large α": {"alpha", "alpha_scale"},
            "large α, no warm-up": {"alpha", "alpha_scale", "warmup"},
            "baseline, untrained block": {"weights"},
            "penalty, untrained block": {"alpha", "weights"},
            "baseline, longer": {"steps"},
            "baseline, wider": {"n_features"},
        }
        assert set(gpt2_tables.COMPARED) | set(gpt2_tables.COMPARED.values()) == set(plan)

    def test_a_wider_baseline_costs_what_the_penalty_costs(self):
        config = gpt2.GPT2Config()
        wide = gpt2_controls.rows_of(config)["baseline, wider"]

        def cost(one):
            return one.batch_size * sum(one.n_features + 4 * k for k in one.k)

        assert cost(wide) / cost(config) == pytest.approx(equal_compute(config), rel=0.03)

    def test_below_the_paper_s_size_they_have_fewer_features(self, small_lm_folder):
        values = {"model": str(small_lm_folder), "text": "sample"}
        assert gpt2_controls.configure(values, "quick").n_features == 32
        assert gpt2_controls.configure(values, "published").n_features == 4 * 32
        assert gpt2_controls.configure({}, "published").n_features == 2 * 192
        assert gpt2_controls.configure(values, "quick").n_inserted == 0

    def test_a_parameter_of_the_section_leaves_the_rows_as_they_are(self, tiny):
        shared = {name: value for name, value in tiny.items() if name in gpt2_controls.SHARED}
        assert gpt2_controls.asked("smoke", 1, {**shared, "alpha": 1.0, "warmup": 7}) == gpt2_controls.asked(
            "smoke", 1, shared
        )

    def test_a_large_alpha_is_a_multiple_of_the_calibrated_one(self, tiny):
        values = {name: value for name, value in tiny.items() if name != "n_inserted"}
        (runs,) = gpt2_controls.collect("smoke", 1, values)
        assert runs["large α"].results["alpha"] == pytest.approx(gpt2_controls.LARGE * runs["penalty"].results["alpha"])
        after_a_step = [runs[name].series("penalty")[1][0] for name in ("large α", "large α, no warm-up")]
        assert after_a_step[0] > after_a_step[1]  # apart for longer

    def test_a_scale_of_nothing_is_refused(self):
        with pytest.raises(ConfigError, match="alpha_scale"):
            TrainingConfig(alpha="calibrate", alpha_scale=0.0)


class Fake:
    """A run with given results."""

    def __init__(self, config=None, arrays=None, metrics=(), **results):
        self.results, self.config, self.arrays, self._metrics = results, config or {}, arrays or {}, metrics

    def series(self, name):
        return np.arange(len(self._metrics)), np.array(self._metrics)


def evidence(name, *runs):
    found = Evidence("smoke")
    found.runs[name] = list(runs)
    return found


class TestMeasures:
    SEEDS = evidence(
        "gpt2",
        {
            "baseline": Fake(
                loss=[1.0, 1.0, 1.0],
                ce=[4.0, 4.0, 2.0],
                ce_uniform=6.0,
                ce_unmodified=1.0,
                arrays={"ce_zero": np.array([5.0, 9.0])},
            ),
            "penalty": Fake(loss=[0.7, 1.0, 1.2], ce=[3.0, 4.0, 1.9], ce_unmodified=1.0),
        },
        {
            "baseline": Fake(loss=[2.0, 1.0, 1.0], ce=[4.0, 4.0, 2.0], ce_unmodified=0.0),
            "penalty": Fake(loss=[1.4, 1.0, 1.2], ce=[3.0, 4.1, 1.9], ce_unmodified=0.0),
        },
    )

    @pytest.mark.parametrize(
        ("measure", "expected"),
        [
            (measures.lm_loss_reduction, [0.1 / 3, 0.1 / 3]),
            (measures.lm_loss_smallest_k, [0.3, 0.3]),
            (measures.lm_loss_largest_k, [0.2, 0.2]),
            (measures.lm_gain_by_k, [0.5, 0.5]),
            (measures.lm_ce_reduction, [0.3 / 3, 0.275 / 3]),
            (measures.lm_ce_increase, [(1 / 3 + 0.1) / 3, 0.275 / 3]),
            (measures.lm_ce_every_k, [0, -0.025]),
            (measures.lm_zero_ablated, [-1, 3]),
        ],
        ids=lambda one: getattr(one, "__name__", ""),
    )
    def test_by_hand(self, measure, expected):
        assert measure(self.SEEDS) == pytest.approx(expected)

    def test_a_k_that_surely_loses_is_not_hidden_by_one_that_scatters(self):
        after = [[4.0, 4.41], [3.2, 4.40], [4.8, 4.42]]  # about 0 with a wide interval; 10 % more, surely
        runs = [
            {"baseline": Fake(loss=[1.0, 1.0], ce=[4.0, 4.0]), "penalty": Fake(loss=[1.0, 1.0], ce=ce)} for ce in after
        ]
        assert measures.lm_ce_every_k(evidence("gpt2", *runs)) == pytest.approx([-0.1025, -0.1, -0.105])

    def test_controls_by_hand(self):
        names = {"baseline": 1.0, "penalty": 1.1, "baseline, longer": 0.5, "baseline, wider": 2.2, "large α": 1.5,
                 "large α, no warm-up": 3.0, "penalty, untrained block": 0.9, "baseline, untrained block": 1.0}  # fmt: skip
        runs = {name: Fake(loss=[value, value]) for name, value in names.items()}
        found = evidence("gpt2-controls", runs)
        for measure, expected in (
            (measures.control_penalty, -0.1),
            (measures.control_longer, 1 - 1.1 / 0.5),
            (measures.control_wider, 0.5),
            (measures.control_large_alpha, -0.5),
            (measures.control_larger_alpha, 1 - 1.5 / 1.1),
            (measures.control_warmup_loss, 0.5),
            (measures.control_untrained, 0.1),
        ):
            assert measure(found) == pytest.approx([expected]), measure.__name__

    def test_what_the_warm_up_does_is_the_mean_over_steps_strictly_inside_it(self):
        series = {"large α": (0.9, 0.5, 0.4, 0.3, 0.1), "large α, no warm-up": (0.9, 0.4, 0.2, 0.3, 0.9),
                  "penalty": (0.9, 0.1, 0.1, 0.1, 0.9), "no warm-up": (0.9, 0.2, 0.2, 0.2, 0.1)}  # fmt: skip
        runs = {name: Fake(config={"warmup": 4}, metrics=values) for name, values in series.items()}
        assert measures.warmup_apart(evidence("gpt2-warm-up", runs)) == pytest.approx([0.1])
        assert measures.warmup_apart_calibrated(evidence("gpt2-warm-up", runs)) == pytest.approx([-0.1])

    def test_a_warm_up_of_which_too_little_was_recorded_says_nothing(self):
        runs = {name: Fake(config={"warmup": 3}, metrics=(0.5,) * 4) for name in ("large α", "large α, no warm-up")}
        with pytest.raises(Untested, match="Fewer than three steps"):
            measures.warmup_apart(evidence("gpt2-warm-up", runs))

    def test_the_short_runs_end_with_the_warm_up_and_differ_from_the_controls_in_length_alone(self):
        for rows, controls in zip(
            warm_up.asked("quick", 2, {"steps": 999}), gpt2_controls.asked("quick", 2, {}), strict=True
        ):
            for name, one in rows.items():
                longer = controls[name].config
                same = replace(one.config, steps=longer.steps, log_every=longer.log_every)
                assert same == longer
                assert one.config.steps == controls["penalty"].config.warmup >= 3 * one.config.log_every


class TestShown:
    def test_the_change_is_paired_and_better_below_zero(self):
        runs = {
            "baseline": Fake(loss=[2.0, 1.0], config={"k": [1, 2], "seed": 0}),
            "penalty": Fake(loss=[1.0, 1.1], config={"k": [1, 2], "seed": 0}),
        }
        change = gpt2_tables.paired_change(gpt2_tables.cells([runs]), "penalty", "loss")
        assert change.to_numpy() == pytest.approx(np.array([[-50, 10]]))

    def test_likeness_is_that_to_the_others(self, pair):
        run = pair["penalty"]
        dictionaries = torch.nn.functional.normalize(run.weights["weight"], dim=-1)
        expected = [
            np.mean([mmcs(one, other).item() for j, other in enumerate(dictionaries) if j != i])
            for i, one in enumerate(dictionaries)
        ]
        assert run.results["mmcs_across"] == pytest.approx(expected, abs=1e-5)
        table = gpt2_tables.cells([pair])
        assert table.loc[table["condition"] == "penalty", "mmcs_across"].tolist() == pytest.approx(expected, abs=1e-5)

    def test_tables_and_figures_of_real_runs(self, pair):
        table, references = gpt2_tables.cells([pair]), gpt2_tables.references(pair["baseline"])
        shown = gpt2_tables.loss(table, "penalty")
        assert list(shown["k"]) == [2, 4, 6, "mean"]
        assert list(shown["paper, %"]) == ["−21.21", "below 0", "below 0", "−5.66"]
        assert len(gpt2_tables.cross_entropy([pair], table, "penalty")) == 4
        assert list(gpt2_tables.ablations(pair["baseline"])["paper, GPT-2 Small"]) == ["3.12", "–", "132.27", "10.82"]
        assert len(gpt2_tables.starts([pair])) == 3
        assert gpt2_tables.scale([pair])["tokens seen"][0] == 8 * 48
        del references["uniform guess"]
        for plot in (gpt2_figures.figure_9(table, references), gpt2_figures.changes(table, "penalty")):
            assert len(plot.data)
            assert re.search("k ?= ?2", plot.alt)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"k": [2, 4]}, "k"),
        ({"k": [2, 4, 60]}, "k"),
        ({"alpha": -1.0}, "alpha"),
        ({"weights": "random"}, "weights"),
        ({"length": 2}, "length"),
        ({"n_inserted": 9}, "n_inserted"),
        ({"n_sequences": 0}, "n_sequences"),
        ({"model": 3}, "model"),
        ({"hok": "blocks.0.hook_mlp_out"}, "hook"),
    ],
)
def test_impossible_values_are_refused(tiny, values, said):
    with pytest.raises(ConfigError, match=said):
        gpt2.configure({**tiny, **values}, "smoke")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"hook": "blocks.0.hook_mlp_uot"}, "near"),
        ({"hook": "blocks.7.hook_mlp_out"}, "no layer 7"),
        ({"n_sequences": 10_000}, "too short"),
        ({"length": 40}, "context"),
    ],
)
def test_nothing_is_stored_where_model_or_text_do_not_fit(tiny, tmp_path, values, said):
    with pytest.raises(ValueError, match=said):
        gpt2.run(gpt2.configure({**tiny, **values}, "smoke"), Store(tmp_path / "runs"))
    assert not list((tmp_path / "runs").rglob("run.json"))


def test_a_model_that_is_not_there_is_refused_before_a_kernel_starts(tmp_path):
    with pytest.raises(LanguageModelError, match="no such folder"):
        planned_for({"profile": "smoke", "model": str(tmp_path / "nowhere")})


def test_zero_alpha_is_no_comparison(tiny):
    with pytest.raises(ConfigError, match="alpha"):
        planned_for({"profile": "smoke", "model": tiny["model"], "alpha": 0})
