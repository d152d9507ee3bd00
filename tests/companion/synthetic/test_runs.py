from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from mfrbook.chapters import registry
from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.chapters.synthetic.runs import ALPHA, PRESETS, PROFILES, SyntheticConfig, configure, evaluate, run
from mfrbook.experiments.conditions import CONDITIONS, condition_fields, plan_conditions
from mfrbook.experiments.planned import collected, plan, reaches_threshold
from mfrbook.store.runs import Run
from mfrbook.store.store import MissingRunsError, Store
from mfrlib.config import ConfigError
from mfrlib.data.synthetic import SyntheticData, SyntheticSpec
from mfrlib.models.sae import TopKSAE
from mfrlib.training.failures import TrainingDiverged

TINY = SyntheticConfig(
    n_input_features=24, d_in=12, n_groups=4, n_active=3, n_features=16, k=3, steps=12, batch_size=64, device="cpu",
    reinit_limit=1000,
)  # fmt: skip


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def quiet(config, store, **options):
    return run(config, store, progress=False, **options)


class TestConfigure:
    def test_the_paper_s_preset_is_the_default_of_every_field(self):
        config = SyntheticConfig()
        assert configure({"batch_size": config.batch_size}, "published") == config  # published runs see fewer samples
        assert (config.n_input_features, config.d_in, config.n_groups, config.decay) == (512, 256, 12, 0.99)
        assert (config.n_features, config.k, config.learning_rate, config.steps * config.batch_size) == (
            512, 36, 0.01, 100_000_000,
        )  # fmt: skip

    @pytest.mark.parametrize("profile", PROFILES)
    @pytest.mark.parametrize("preset", PRESETS)
    def test_presets_are_whole_at_every_size(self, preset, profile):
        config = configure({}, profile, preset)
        for field, value in {**PRESETS[preset], **PROFILES[profile].fields}.items():
            assert getattr(config, field) == value
        assert preset in ALPHA

    def test_active_features_of_the_presets_are_those_of_the_readings(self):
        active = {name: configure({}, "published", name) for name in PRESETS}
        assert {name: one.n_active * one.n_active_groups for name, one in active.items()} == {
            "as-printed": 36, "as-released": 32, "first-edition": 36, "one-group": 3, "all-groups": 36, "released-oct24": 36, "released-head": 32,
        }  # fmt: skip
        assert {name: one.n_active_groups for name, one in active.items() if one.n_active_groups > 1} == {
            "all-groups": 12
        }

    def test_first_edition_and_as_printed_differ_in_what_the_penalty_weighs_and_no_more(self):
        first, printed = (configure({}, "published", name) for name in ("first-edition", "as-printed"))
        assert printed == replace(first, reduction="sum")

    def test_values_of_one_s_own_win(self):
        assert configure({"steps": 7, "k": [4, 5]}, "published", "one-group").steps == 7
        assert configure({"k": [4, 5]}).k == (4, 5)

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"n_feature": 512}, "did you mean 'n_features'"),
            ({"k": 513}, "k: between 1 and n_features = 512, given 513"),
            ({"d_in": 512}, "G must exceed d_in = 512"),
            ({"n_input_features": 100}, "G must exceed d_in = 256"),
            ({"alpha": -0.1}, "alpha: .*given -0.1"),
            ({"alpha": 1.0, "n_saes": 1}, "n_saes"),
            ({"n_saes": 1}, "n_saes: .*2 or more"),
            ({"steps": True}, "steps: must be int, given True"),
            ({"batch_size": "1000"}, "batch_size: must be int, given '1000'"),
            ({"center": 1}, "center: must be bool, given 1"),
            ({"seed": None}, "seed: must be int, given None"),
        ],
    )
    def test_impossible_values_are_refused(self, values, words):
        with pytest.raises(ConfigError, match=words):
            configure(values)

    def test_unknown_presets_and_profiles_are_refused(self):
        with pytest.raises(ConfigError, match="unknown preset 'one_group'; did you mean 'one-group'"):
            configure({}, "quick", "one_group")
        with pytest.raises(ConfigError, match="unknown profile 'quik'; did you mean 'quick'"):
            configure({}, "quik")

    def test_experiments_are_found_by_name(self):
        assert registry.load("synthetic") is synthetic
        with pytest.raises(ConfigError, match="did you mean 'synthetic'"):
            registry.load("sinthetic")


class TestRun:
    def test_a_run_is_loaded_where_it_is_there_and_is_the_same(self, store, monkeypatch):
        first = quiet(TINY, store)
        monkeypatch.setattr(synthetic, "train", lambda *_, **__: pytest.fail("trained again"))
        second = quiet(TINY, store)
        assert second.results == first.results
        assert second.metrics == first.metrics
        assert torch.equal(second.weights["weight"], first.weights["weight"])
        assert first.results["samples"] == 12 * 64
        assert first.config["steps"] == 12

    def test_it_is_reproduced_to_the_bit_elsewhere(self, store, tmp_path):
        config = replace(TINY, alpha=2.0, reinit="window", reinit_threshold=0.3)
        one, other = quiet(config, store), quiet(config, Store(tmp_path / "elsewhere"))
        assert one.results == other.results
        assert one.metrics == other.metrics
        assert torch.equal(one.weights["weight"], other.weights["weight"])
        assert one.results["events"]

    def test_a_run_interrupted_in_the_store_goes_on_to_the_same_bits(self, store, tmp_path, monkeypatch):
        config = replace(TINY, alpha=2.0, reinit="window", reinit_threshold=0.3, checkpoint_every=2)
        whole, plain = quiet(config, Store(tmp_path / "elsewhere")), SyntheticData.batch
        for fail in (0, 5, 11):

            def batch(self, step, fail=fail):
                if step == fail:
                    raise KeyboardInterrupt
                return plain(self, step)

            monkeypatch.setattr(SyntheticData, "batch", batch)
            with pytest.raises(KeyboardInterrupt):
                quiet(config, store)
            assert list(store.all()) == []
        monkeypatch.setattr(SyntheticData, "batch", plain)
        resumed = quiet(config, store)
        assert resumed.metrics == whole.metrics
        assert resumed.results == whole.results
        assert torch.equal(resumed.weights["weight"], whole.weights["weight"])

    def test_a_run_that_met_nan_is_no_finished_run(self, store, monkeypatch):
        plain = SyntheticData.batch

        def batch(self, step):
            x = plain(self, step)
            x[1, 3] = float("nan") if step == 4 else 0
            return x

        monkeypatch.setattr(SyntheticData, "batch", batch)
        with pytest.raises(TrainingDiverged, match="step 4, row 1, column 3"):
            quiet(TINY, store)
        assert list(store.all()) == []
        assert list(store.cache.glob("unfinished/*/checkpoint.safetensors"))


class TestConditions:
    def test_fields_of_the_four(self):
        assert {name: condition_fields(name, 3.0) for name in CONDITIONS} == {
            "baseline": {"alpha": 0.0, "reinit": "off"},
            "reinit": {"alpha": 0.0, "reinit": "window"},
            "penalty": {"alpha": 3.0, "reinit": "off"},
            "mfr": {"alpha": 3.0, "reinit": "window"},
        }

    @staticmethod
    def all_of(config, store, reinit="window"):
        return collected(plan_conditions("synthetic", config, 2.0, synthetic.DATA_ID, reinit), store, progress=False)

    def test_where_the_threshold_is_never_reached_nothing_runs_twice(self, store):
        found = self.all_of(replace(TINY, reinit_threshold=50.0), store)
        assert list(found) == ["baseline", "penalty"]
        assert not any(reaches_threshold(one) for one in found.values())
        assert len(list(store.all())) == 2
        # and it would have been the same run under another name
        left_out = quiet(replace(TINY, reinit_threshold=50.0, reinit="window"), store)
        assert left_out.metrics == found["baseline"].metrics

    def test_where_it_is_reached_all_four_run_and_differ_from_the_first_event_on(self, store):
        found = self.all_of(replace(TINY, reinit_threshold=0.3), store)
        assert sorted(found) == sorted(CONDITIONS)
        for plain, restarted in (("baseline", "reinit"), ("penalty", "mfr")):
            events = found[restarted].results["events"]
            assert events
            assert not found[plain].results["events"]
            first = events[0][0]
            before, after = found[plain].metrics, found[restarted].metrics
            assert before[:first] == after[:first]
            assert before[first]["loss"] == after[first]["loss"]
            assert before[-1] != after[-1]
        assert found["baseline"].results["alpha"] == 0
        assert found["mfr"].results["alpha"] == 2.0

    def test_where_every_step_is_checked_all_four_run_and_fire_as_late_as_they_may(self, store):
        config = replace(TINY, reinit_threshold=50.0, reinit_window=2)
        found = self.all_of(config, store, "always")
        assert sorted(found) == sorted(CONDITIONS), "records between which a threshold may be crossed decide nothing"
        assert {one.config["reinit"] for one in found.values()} == {"off", "always"}
        planned = plan_conditions("synthetic", config, 2.0, synthetic.DATA_ID, "always")
        assert {one.after for one in planned.values()} == {None}

    @pytest.mark.parametrize(("preset", "mode"), [("first-edition", "window"), ("as-released", "always")])
    def test_the_preset_says_when_inactivity_is_checked(self, preset, mode):
        planned = plan(["synthetic"], {"profile": "published", "preset": preset, "n_seeds": 1})
        assert {one.config.reinit for one in planned} == {"off", mode}
        assert {one.config.alpha for one in planned} == {0.0, 3.0}

    @pytest.mark.parametrize(("threshold", "window"), [(0.45, 12), (0.6, 12), (0.6, 2), (0.9, 5), (5.0, 12)])
    def test_whether_it_is_reached_is_whether_a_run_with_it_has_events(self, store, threshold, window):
        config = replace(TINY, reinit_threshold=threshold, reinit_window=window)
        assert reaches_threshold(quiet(config, store)) == bool(
            quiet(replace(config, reinit="window"), store).results["events"]
        )

    def test_thresholds_reached_only_after_the_window_do_not_count(self):
        def with_inactivity(*values):
            metrics = [{"step": step, "inactivity": list(pair)} for step, pair in enumerate(values)]
            return Run("synthetic", {"reinit_window": 2, "reinit_threshold": 1.0}, "d", {}, metrics)

        assert not reaches_threshold(with_inactivity((0.5, 1.0), (1.0, 0.2), (9.0, 9.0)))
        assert reaches_threshold(with_inactivity((0.5, 1.0), (0.1, 1.1), (0.0, 0.0)))

    def test_alpha_as_an_int_is_the_same_run(self, store):
        assert quiet(replace(TINY, alpha=2), store).key == quiet(replace(TINY, alpha=2.0), store).key

    def test_the_paper_s_profile_never_trains(self, monkeypatch):
        monkeypatch.setattr(synthetic, "train", lambda *_, **__: pytest.fail("trained"))
        with pytest.raises(MissingRunsError, match="not in the archive: synthetic"):
            synthetic.collect("published", 1, {"preset": "one-group", "seed": None, "n_features": 300})

    def test_collect_gives_each_seed_its_conditions(self):
        values = {"n_input_features": 24, "d_in": 12, "n_groups": 4, "n_active": 3, "n_features": 16, "k": 3,
                  "steps": 4, "batch_size": 32, "alpha": None, "device": "cpu"}  # fmt: skip
        found = synthetic.collect("smoke", 2, values)
        assert [one["baseline"].config["seed"] for one in found] == [0, 1]
        assert {one["penalty"].config["alpha"] for one in found} == {3.0}
        with pytest.raises(ConfigError, match="k: between"):
            synthetic.collect("smoke", 2, {**values, "k": 17})


def stack_of(features, *, noise=0.0, order=None, k=3):
    """Return a stack of two SAEs whose rows are known features, permuted, with noise."""
    draws = torch.Generator().manual_seed(0)
    sae = TopKSAE(2, features.shape[1], len(features), k)
    with torch.no_grad():
        for number in range(2):
            rows = features[torch.randperm(len(features), generator=draws)]
            sae.weight[number] = rows + noise * torch.randn(rows.shape, generator=draws)
    return sae


class TestEvaluate:
    spec = SyntheticSpec(n_input_features=24, d_in=12, n_groups=4, n_active=3)

    def test_saes_that_are_the_features_score_one(self):
        source = SyntheticData(self.spec, 0, 200, 1000)
        results, arrays = evaluate(stack_of(source.features), source)
        for name in ("mmcs_input", "matched_input", "recovered", "mmcs_across", "matched_across", "unique_across",
                     "unique_input"):  # fmt: skip
            assert results[name] == pytest.approx([1, 1], abs=1e-5), name
        assert results["cluster"] == [0, 0]
        assert results["cluster_minus_mean"] is None
        assert arrays["rate"].sum(1) == pytest.approx([3, 3], rel=1e-5)

    def test_every_number_against_plain_numpy(self, monkeypatch):
        monkeypatch.setattr(synthetic, "HELD_OUT_BATCHES", 3)
        source = SyntheticData(self.spec, 0, 200, 1000)
        sae = stack_of(source.features, noise=1.0)
        results, arrays = evaluate(sae, source)

        def unit(a):
            return a / np.linalg.norm(a, axis=-1, keepdims=True)

        weight, features = sae.weight.detach().double().numpy(), source.features.double().numpy()
        x = torch.cat(list(source.held_out(3))).double().numpy()
        for i in range(2):
            hidden = x @ weight[i].T
            kept = np.argsort(-hidden, axis=1)[:, :3]
            code = np.zeros_like(hidden)
            np.put_along_axis(code, kept, np.take_along_axis(hidden, kept, 1), 1)
            error = x - code @ unit(weight[i])
            assert results["loss"][i] == pytest.approx((error**2).mean(), rel=1e-4)
            assert results["fvu"][i] == pytest.approx((error**2).sum() / ((x - x.mean(0)) ** 2).sum(), rel=1e-4)
            rate = (code != 0).mean(0)
            assert arrays["rate"][i] == pytest.approx(rate, abs=2e-3)
            assert results["dead"][i] == pytest.approx((rate == 0).mean(), abs=0.05)
            assert results["inactivity"][i] == pytest.approx(np.abs(rate / (3 / 24) - 1).mean(), rel=1e-2)

            table, across = unit(weight[i]) @ unit(features).T, unit(weight[i]) @ unit(weight[1 - i]).T
            assert results["mmcs_input"][i] == pytest.approx(table.max(1).mean(), rel=1e-5)
            assert results["matched_input"][i] == pytest.approx(table[linear_sum_assignment(-table)].mean(), rel=1e-5)
            assert results["recovered"][i] == pytest.approx((table.max(0) >= 0.9).mean())
            assert results["mmcs_across"][i] == pytest.approx(across.max(1).mean(), rel=1e-5)
            assert results["matched_across"][i] == pytest.approx(
                across[linear_sum_assignment(-across)].mean(), rel=1e-5
            )
            assert results["unique_across"][i] == len(set(across.argmax(1))) / 24
            assert results["unique_input"][i] == len(set(table.argmax(1))) / 24
            own = unit(weight[i]) @ unit(weight[i]).T - 2 * np.eye(24)
            assert results["coherence"][i] == pytest.approx(own.max(1).mean(), rel=1e-5)
            assert arrays["minus_mean"][i] == pytest.approx(-unit(weight[i]) @ unit(x.mean(0)), abs=1e-5)
            cluster = (across.max(1) > 0.7) & (table.max(1) < 0.4)
            assert results["cluster"][i] == cluster.sum()
        r = np.corrcoef(arrays["across"].ravel(), arrays["input"].ravel())[0, 1]
        assert results["r"] == pytest.approx(r, rel=1e-5)

    def test_a_shared_row_unlike_every_feature_is_the_cluster(self):
        wide = SyntheticSpec(n_input_features=48, d_in=40, n_groups=4, n_active=3)
        source = SyntheticData(wide, 0, 200, 1000)
        sae = stack_of(source.features)
        mean = torch.cat(list(source.held_out(5))).mean(0)
        with torch.no_grad():
            sae.weight[:, 0] = -mean  # both SAEs hold it, no feature points there
        unlike = (torch.nn.functional.normalize(source.features, dim=1) @ -mean / mean.norm()).max()
        assert unlike < 0.4
        results, arrays = evaluate(sae, source)
        assert results["cluster"] == [1, 1]
        assert arrays["cluster"][:, 0].all()
        assert results["cluster_minus_mean"] == pytest.approx(1, abs=0.02)

    def test_more_rows_than_features_leave_unmatched_rows_out(self):
        source = SyntheticData(self.spec, 0, 200, 1000)
        sae = TopKSAE(2, 12, 30, 3, generator=torch.Generator().manual_seed(0))
        results, arrays = evaluate(sae, source)
        assert np.isnan(arrays["input"]).sum(1).tolist() == [6, 6]
        assert np.isfinite([*results["matched_input"], results["r"], results["r_without_cluster"]]).all()
