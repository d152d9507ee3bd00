import contextlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from mfrlib import TopKSAE, mutual_feature_penalty
from mfrlib.config import ConfigError
from mfrlib.data.batches import ALL_SHARDS, rows
from mfrlib.method.penalty import warmup
from mfrlib.method.reinit import ReinitLimitError, inactivity
from mfrlib.models.kernels import compiled
from mfrlib.models.objectives import reconstruction_loss
from mfrlib.models.stack import activation_counts
from mfrlib.training import checkpoint
from mfrlib.training import loop as training
from mfrlib.training.config import TrainingConfig
from mfrlib.training.failures import TrainingDiverged
from mfrlib.training.loop import reconstruct, train
from mfrlib.training.state import TrainingState

SMALL = TrainingConfig(
    steps=40, batch_size=24, n_features=12, k=3, learning_rate=0.01, log_every=3, checkpoint_every=7, device="cpu"
)
# Everything that changes while training changes here: re-initialisations, a penalty that warms up, α calibrated.
FULL = replace(
    SMALL, alpha="calibrate", warmup=15, reinit="always", reinit_threshold=0.6, reinit_limit=1000, decoder_bias=True
)


@dataclass
class Source:
    """Sparse combinations of ten fixed directions; `spoil` gives a step whose batch is not finite."""

    d_in: int = 6
    id: str = "test"
    n: int = 24
    dtype: torch.dtype = torch.float32
    spoil: int | None = None
    fail: int | None = None
    scale: float = 1.0

    def batch(self, step, shards=ALL_SHARDS):
        if step == self.fail:
            raise InterruptedError(f"at step {step}")
        directions = torch.randn(10, self.d_in, generator=torch.Generator().manual_seed(0))
        draws = torch.Generator().manual_seed(1000 + step)
        code = torch.rand(self.n, 10, generator=draws) * (torch.rand(self.n, 10, generator=draws) < 0.3)
        x = (self.scale * code @ directions).to(self.dtype)
        if step == self.spoil:
            x[4, 2] = float("nan")
        return x[[row for shard in shards for row in rows(self.n, shard)]]


def quiet(config, source=None, **options):
    return train(config, source or Source(), progress=False, **options)


def same(one, other):
    """Tell whether two results agree to the bit."""
    assert one.metrics == other.metrics
    assert one.events == other.events
    assert one.alpha == other.alpha
    for (name, a), (_, b) in zip(one.sae.named_parameters(), other.sae.named_parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.fixture
def double(monkeypatch):
    """Train in double precision, where an oracle's rounding does not hide a mistake."""
    monkeypatch.setattr(training, "PRECISION", torch.float64)
    torch.set_default_dtype(torch.float64)
    yield torch.float64
    torch.set_default_dtype(torch.float32)


class TestTheStep:
    @pytest.mark.parametrize("optimizer", ["adamw", "adam"])
    @pytest.mark.parametrize("form", [{}, {"decoder": "raw", "decoder_bias": True, "reduction": "sum"}])
    def test_without_a_penalty_each_sae_is_what_plain_pytorch_makes_of_it_alone(self, double, optimizer, form):
        """The oracle is a stack of one, its dense formula, and an optimiser of its own with PyTorch's defaults."""
        config = replace(SMALL, n_saes=3, k=(2, 3, 5), optimizer=optimizer, **form)
        source = Source(dtype=double)
        trained = quiet(config, source)
        begin = start(config)
        make = torch.optim.AdamW if optimizer == "adamw" else torch.optim.Adam
        for number, k in enumerate(config.k):
            parameters = {name: value[number].clone().requires_grad_() for name, value in begin.items()}
            own = make(parameters.values(), lr=config.learning_rate)
            for step in range(config.steps):
                own.zero_grad()
                dense_loss(parameters, source.batch(step), k, config).backward()
                own.step()
            for name, value in parameters.items():
                found = trained.sae.get_parameter(name)[number]
                torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-11)

    def test_with_a_penalty_the_stack_is_what_one_optimiser_makes_of_the_sum(self, double):
        config = replace(SMALL, n_saes=3, alpha=2.0, warmup=10)
        source = Source(dtype=double)
        trained = quiet(config, source)
        begin = start(config)
        sae = TopKSAE(3, 6, 12, 3)
        with torch.no_grad():
            for name, value in begin.items():
                sae.get_parameter(name).copy_(value)
        own = torch.optim.AdamW(sae.parameters(), lr=config.learning_rate)
        for step in range(config.steps):
            own.zero_grad()
            x = source.batch(step)
            loss = reconstruction_loss(sae(x).reconstruction, x).sum()
            (loss + 2.0 * warmup(step, 10) * mutual_feature_penalty(sae.weight)).backward()
            own.step()
        torch.testing.assert_close(trained.sae.weight, sae.weight, rtol=1e-9, atol=1e-11)

    def test_a_stack_of_two_is_two_stacks_of_one(self):
        """In single precision too, and with the same records."""
        both = quiet(SMALL)
        begin = start(SMALL)
        for number in range(2):
            sae = TopKSAE(1, 6, 12, 3)
            with torch.no_grad():
                for name, value in begin.items():
                    sae.get_parameter(name).copy_(value[number : number + 1])
            own = torch.optim.AdamW(sae.parameters(), lr=0.01, fused=True)
            for step in range(SMALL.steps):
                x = Source().batch(step)
                loss = reconstruction_loss(sae(x).reconstruction, x).sum()
                assert both.metrics[step]["loss"][number] == pytest.approx(loss.item(), rel=1e-5)
                own.zero_grad()
                loss.backward()
                own.step()
            torch.testing.assert_close(both.sae.weight[number], sae.weight[0], rtol=0, atol=1e-6)

    def test_alpha_zero_trains_without_looking_at_the_other_sae(self):
        one = quiet(replace(SMALL, n_saes=1))
        assert "penalty" not in one.metrics[0]
        torch.testing.assert_close(one.sae.weight[0], quiet(SMALL).sae.weight[0], rtol=0, atol=1e-6)

    def test_it_learns(self):
        losses = [record["loss"] for record in quiet(replace(SMALL, steps=200)).metrics]
        assert max(losses[-1]) < 0.5 * min(losses[0])

    def test_the_seed_decides(self):
        same(quiet(SMALL), quiet(SMALL))
        assert not torch.equal(quiet(SMALL).sae.weight, quiet(replace(SMALL, seed=1)).sae.weight)


def start(config):
    """Return the weights a config starts from: a step at next to no learning rate changes nothing."""
    sae = quiet(replace(config, steps=1, learning_rate=1e-40), Source(dtype=torch.get_default_dtype())).sae
    return {name: value.detach().clone() for name, value in sae.named_parameters()}


def dense_loss(parameters, x, k, config):
    """Return the reconstruction loss of one SAE by the formula."""
    weight, bias = parameters["weight"], parameters["bias"]
    shift = parameters.get("decoder_bias", torch.zeros(x.shape[1]))
    hidden = (x - shift) @ weight.T + bias
    code = hidden * (hidden >= hidden.kthvalue(hidden.shape[1] - k + 1, dim=1, keepdim=True).values)
    rows = normalize(weight, dim=1) if config.decoder == "normalized" else weight
    error = (code @ rows + shift - x).square()
    return error.mean() if config.reduction == "mean" else error.sum(1).mean()


class TestPenaltyWeight:
    def test_alpha_as_given(self):
        assert quiet(replace(SMALL, steps=1, alpha=3)).alpha == 3.0
        assert quiet(replace(SMALL, steps=1)).alpha == 0.0

    def test_calibration_uses_loss_and_penalty_before_training(self):
        loss = sum(quiet(SMALL).metrics[0]["loss"]) / 2
        penalty = mutual_feature_penalty(start(SMALL)["weight"]).item()
        balance = quiet(replace(SMALL, alpha="calibrate"))
        assert balance.alpha * penalty == pytest.approx(loss, rel=1e-6)
        assert quiet(replace(SMALL, alpha="calibrate", calibration="loss")).alpha == pytest.approx(loss, rel=1e-6)

    def test_a_penalty_brings_the_dictionaries_together(self):
        apart, together = quiet(replace(SMALL, steps=100)), quiet(replace(SMALL, steps=100, alpha=3))
        assert together.metrics[-1]["penalty"] < 0.5 * apart.metrics[-1]["penalty"]

    def test_one_sae_is_refused(self):
        with pytest.raises(ConfigError, match=r"alpha: a penalty needs n_saes of 2 or more, given 3\.0"):
            replace(SMALL, n_saes=1, alpha=3.0)


class TestRecords:
    def test_all_of_the_window_then_every_so_many_and_the_last(self):
        steps = [record["step"] for record in quiet(replace(SMALL, steps=120, log_every=8)).metrics]
        assert steps == [*range(100), 104, 112, 119]

    def test_a_longer_window_is_recorded_whole(self):
        steps = [record["step"] for record in quiet(replace(SMALL, steps=130, log_every=50, reinit_window=110)).metrics]
        assert steps == [*range(110), 129]

    def test_values_are_those_of_the_step(self):
        """Loss and inactivity belong to the batch before the update, the penalty and `observe` to the weights after."""
        seen = []

        def observe(sae):
            seen.append(sae.weight.detach().clone())
            return {"norm": sae.weight.norm().item()}

        trained = quiet(SMALL, observe=observe)
        whole = [record for record in trained.metrics if "penalty" in record]
        assert [record["step"] for record in whole] == list(range(0, 40, 3))
        for weight, record in zip(seen, whole, strict=True):
            assert record["penalty"] == pytest.approx(mutual_feature_penalty(weight).item(), rel=1e-6)
            assert record["norm"] == pytest.approx(weight.norm().item(), rel=1e-6)
        assert torch.equal(seen[-1], trained.sae.weight)
        # Biases are zero at first, so the first step can be computed again from weights alone.
        begin, sae, x = start(SMALL), TopKSAE(2, 6, 12, 3), Source().batch(0)
        with torch.no_grad():
            sae.weight.copy_(begin["weight"])
            output = sae(x)
        assert trained.metrics[0]["loss"] == pytest.approx(reconstruction_loss(output.reconstruction, x).tolist())
        rates = activation_counts(output, 12) / len(x)
        assert trained.metrics[0]["inactivity"] == pytest.approx(inactivity(rates, 3).tolist())

    def test_records_lie_in_the_folder_as_they_are_returned(self, tmp_path):
        trained = quiet(FULL, folder=tmp_path / "deep" / "run")
        lines = (tmp_path / "deep" / "run" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == trained.metrics
        same(trained, quiet(FULL))


class TestReinitialisation:
    def test_nothing_differs_before_the_first_event_and_only_that_sae_at_it(self):
        plain, restarted = quiet(replace(FULL, reinit="off")), quiet(FULL)
        step, first = restarted.events[0]
        at_once = [sae for when, sae in restarted.events if when == step]
        for a, b in zip(plain.metrics[:step], restarted.metrics[:step], strict=True):
            assert a == b
        assert plain.metrics[step]["loss"] == restarted.metrics[step]["loss"]
        assert plain.metrics[step + 1]["loss"][first] != restarted.metrics[step + 1]["loss"][first]
        for other in {0, 1} - set(at_once):
            assert plain.metrics[step + 1]["loss"][other] == restarted.metrics[step + 1]["loss"][other]

    def test_events_are_where_the_recorded_inactivity_exceeds_the_threshold(self):
        trained = quiet(FULL)
        expected = [
            (record["step"], sae)
            for record in trained.metrics
            for sae, value in enumerate(record["inactivity"])
            if value > FULL.reinit_threshold
        ]
        assert trained.events == expected
        assert 1 < len(expected) < 2 * FULL.steps  # else this test shows little

    def test_optimiser_state_starts_again_with_the_sae(self, tmp_path):
        """The step count of each SAE's optimiser, kept apart from the other's, is its age."""
        trained = quiet(FULL, folder=tmp_path)
        last = [max(step for step, one in trained.events if one == sae) for sae in (0, 1)]
        ages = [FULL.steps - 1 - step for step in last]
        assert len(set(ages)) == 2, "both have one age: the test shows nothing"
        assert min(ages) > 0
        with safe_open(tmp_path / "checkpoint.safetensors", "pt") as file:
            for name in ("weight", "bias", "decoder_bias"):
                assert [file.get_tensor(f"optimizer/{name}/{sae}/step").item() for sae in (0, 1)] == ages

    def test_a_restarted_sae_learns_as_a_new_one_with_those_weights(self, double, monkeypatch):
        """What follows a restart is what PyTorch's own optimiser makes of the fresh weights."""
        fresh = []
        plain = TopKSAE.reinitialize

        def remember(self, sae, generator=None):
            plain(self, sae, generator)
            fresh.append(self.weight[sae].detach().clone())

        config = replace(SMALL, n_saes=1, reinit="window", reinit_window=1, reinit_threshold=0.01)
        monkeypatch.setattr(TopKSAE, "reinitialize", remember)
        source = Source(dtype=double)
        # A window of one step: step 0 fires, and so does each first step of a life, until the limit.
        with pytest.raises(ReinitLimitError, match="20 times"):
            quiet(config, source)
        assert len(fresh) == 21
        assert len({tuple(one.flatten().tolist()) for one in fresh}) == 21  # every life has weights of its own

        fresh.clear()
        calls = iter([True])
        monkeypatch.setattr(training, "inactivity", lambda *_: torch.tensor([2.0 if next(calls, False) else 0.0]))
        trained = quiet(config, source)
        assert trained.events == [(0, 0)]
        parameters = {"weight": fresh[1].requires_grad_(), "bias": torch.zeros(12, requires_grad=True)}
        own = torch.optim.AdamW(parameters.values(), lr=0.01)
        for step in range(1, config.steps):
            own.zero_grad()
            dense_loss(parameters, source.batch(step), 3, config).backward()
            own.step()
        torch.testing.assert_close(trained.sae.weight[0], parameters["weight"], rtol=1e-9, atol=1e-11)

    def test_the_limit_stops_a_run_that_would_never_end(self):
        with pytest.raises(ReinitLimitError, match=r"re-initialised 2 times.*Raise reinit_threshold"):
            quiet(replace(FULL, reinit_threshold=0.01, reinit_limit=2))


class TestResume:
    @pytest.mark.parametrize("config", [SMALL, FULL, replace(FULL, k=(2, 5), n_saes=2, optimizer="adam", warmup=100)])
    def test_interrupted_again_and_again_ends_with_the_same_bits(self, tmp_path, config):
        whole = quiet(config, folder=tmp_path / "whole")
        for fail in (0, 3, 7, 8, 20, 21, 35, 39):
            with pytest.raises(InterruptedError):
                quiet(config, Source(fail=fail), folder=tmp_path / "run")
        resumed = quiet(config, folder=tmp_path / "run")
        same(resumed, whole)
        assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()

    def test_it_goes_on_from_the_checkpoint_and_replays_no_more(self, tmp_path):
        with pytest.raises(InterruptedError):
            quiet(FULL, Source(fail=24), folder=tmp_path)
        seen = []

        class Watched(Source):
            def batch(self, step):
                seen.append(step)
                return super().batch(step)

        quiet(FULL, Watched(), folder=tmp_path)
        assert seen == list(range(21, 40))

    def test_a_finished_run_is_not_trained_again(self, tmp_path):
        whole = quiet(FULL, folder=tmp_path)
        same(quiet(FULL, Source(fail=0), folder=tmp_path), whole)

    def test_a_half_written_last_record_is_written_again(self, tmp_path):
        with pytest.raises(InterruptedError):
            quiet(FULL, Source(fail=24), folder=tmp_path)
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('\n{"step": 24, "lo')  # and a blank line is none
        same(quiet(FULL, folder=tmp_path), quiet(FULL))

    @pytest.mark.parametrize("change", [lambda lines: [], lambda lines: [*lines[:4], "{", *lines[4:]]])
    def test_records_that_are_gone_or_unreadable_are_said_and_left(self, tmp_path, change):
        quiet(FULL, folder=tmp_path)
        records = tmp_path / "metrics.jsonl"
        records.write_text("\n".join(change(records.read_text().splitlines())))
        before = records.read_bytes()
        with pytest.raises(ConfigError, match="folder: its checkpoint or its records were changed"):
            quiet(FULL, folder=tmp_path)
        assert records.read_bytes() == before

    def test_a_finished_run_is_opened_where_nothing_can_be_written(self, tmp_path, monkeypatch):
        trained = quiet(FULL, folder=tmp_path)

        def refuse(path, *_):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(checkpoint, "locked", refuse)
        monkeypatch.setattr(checkpoint, "replacing", refuse)
        same(quiet(FULL, folder=tmp_path), trained)
        with pytest.raises(PermissionError):
            quiet(FULL, folder=tmp_path / "new")

    def test_killed_while_the_checkpoint_is_written(self, tmp_path, monkeypatch):
        """The old one stands until the new one is whole."""
        calls = []

        def full_disk(tensors, path, metadata):
            calls.append(path)
            if len(calls) == 3:
                Path(path).write_bytes(b"half a file")
                raise OSError(28, "No space left on device")
            plain(tensors, path, metadata)

        plain = checkpoint.save_tensors
        monkeypatch.setattr(checkpoint, "save_tensors", full_disk)
        with pytest.raises(OSError, match="No space left"):
            quiet(FULL, folder=tmp_path)
        monkeypatch.undo()
        same(quiet(FULL, folder=tmp_path), quiet(FULL))

    @pytest.mark.parametrize("operation", ["replace", "write_text"])
    def test_killed_while_records_are_cut_to_the_checkpoint(self, tmp_path, monkeypatch, operation):
        """Between the writing and the renaming, or, were the file written in place, when it is empty."""
        with pytest.raises(InterruptedError):
            quiet(FULL, Source(fail=24), folder=tmp_path)
        plain = Path.write_text

        def killed(*_, **__):
            raise InterruptedError

        def truncated(path, text, *rest, **options):
            if path.name == "metrics.jsonl":
                path.open("w").close()
                raise InterruptedError
            return plain(path, text, *rest, **options)

        with monkeypatch.context() as patch, contextlib.suppress(InterruptedError):
            patch.setattr(
                *((checkpoint.os, "replace", killed) if operation == "replace" else (Path, "write_text", truncated))
            )
            quiet(FULL, folder=tmp_path)
        same(quiet(FULL, folder=tmp_path), quiet(FULL))

    def test_a_damaged_checkpoint_is_reported_and_not_used(self, tmp_path):
        with pytest.raises(InterruptedError):
            quiet(FULL, Source(fail=24), folder=tmp_path)
        file = tmp_path / "checkpoint.safetensors"
        file.write_bytes(file.read_bytes()[:-10])
        with pytest.warns(UserWarning, match=r"checkpoint .*checkpoint\.safetensors is damaged"):
            resumed = quiet(FULL, folder=tmp_path)
        same(resumed, quiet(FULL))

    @pytest.mark.parametrize(
        ("changes", "source", "differs"),
        [
            (
                {"seed": 9, "alpha": 3.0},
                {},
                "alpha is 0.0 there, 3 here; seed is 0 there, 9 here. Give what is there, or",
            ),
            ({"steps": 20}, {}, "steps is 40 there, 20 here. Give 40 steps or more, or take another folder"),
            ({"k": (2, 5)}, {}, r"k is 3 there, \[2, 5\] here"),
            ({}, {"id": "other"}, "data is 'test' there, 'other' here"),
        ],
    )
    def test_another_run_s_checkpoint_is_refused(self, tmp_path, changes, source, differs):
        train(SMALL, Source(), folder=tmp_path, progress=False)
        with pytest.raises(ConfigError, match=f"another run: {differs}"):
            train(replace(SMALL, **changes), Source(**source), folder=tmp_path, progress=False)
        train(replace(SMALL, log_every=5), Source(), folder=tmp_path, progress=False)

    def test_how_often_checkpoints_and_records_are_written_changes_no_weight(self, tmp_path):
        one = quiet(replace(FULL, checkpoint_every=1, log_every=1), folder=tmp_path / "a")
        other = quiet(replace(FULL, checkpoint_every=1000, log_every=17), folder=tmp_path / "b")
        assert torch.equal(one.sae.weight, other.sae.weight)


class TestBadInput:
    @pytest.mark.parametrize("config", [SMALL, FULL])
    @pytest.mark.parametrize("step", [0, 11])
    def test_nan_in_the_data_stops_the_run_and_says_where(self, tmp_path, config, step):
        with pytest.raises(TrainingDiverged, match=rf"data at step {step}, row 4, column 2 .*kept in .*checkpoint"):
            quiet(config, Source(spoil=step), folder=tmp_path)
        # What was learned before is whole: with the data cleaned, the run ends as if nothing had been.
        same(quiet(config, folder=tmp_path), quiet(config))

    def test_without_a_folder_nothing_is_said_to_be_kept(self):
        with pytest.raises(TrainingDiverged, match=r"of the batch\. Clean"):
            quiet(SMALL, Source(spoil=0))

    def test_inf_in_the_data(self):
        with pytest.raises(TrainingDiverged, match="step 0, row 0, column"):
            quiet(SMALL, Source(scale=float("inf")))

    def test_a_loss_that_overflows_names_the_sae_and_the_remedy(self, tmp_path):
        with (
            pytest.warns(UserWarning, match="root mean square"),
            pytest.raises(TrainingDiverged, match=r"not finite at step 0, SAE \[0, 1\].*smaller learning_rate"),
        ):
            quiet(SMALL, Source(scale=1e25), folder=tmp_path)

    def test_weights_that_overflow_replace_no_good_checkpoint(self, tmp_path):
        """A learning rate so large that an update overflows: the checkpoint keeps weights that are finite."""
        config = replace(SMALL, learning_rate=1e38, checkpoint_every=1)
        with pytest.raises(TrainingDiverged, match=r"not finite at step [12]"):
            quiet(config, folder=tmp_path)
        file = tmp_path / "checkpoint.safetensors"
        if file.exists():
            with safe_open(file, "pt") as opened:
                assert torch.isfinite(opened.get_tensor("weight")).all()

    def test_weights_that_overflow_in_the_last_step_are_no_result(self, monkeypatch):
        def overflow(self, gradients, rate, skip):
            with torch.no_grad():
                self.sae.weight[1, 0, 0] = float("inf")

        monkeypatch.setattr(TrainingState, "optimizer_step", overflow)
        with pytest.raises(TrainingDiverged, match="weights are not finite after the last step, 0"):
            quiet(replace(SMALL, steps=1))

    def test_a_batch_of_another_width_is_refused_with_both(self):
        class Wide(Source):
            def batch(self, step):
                return super().batch(step).repeat(1, 2)

        with pytest.raises(ValueError, match=r"d_in = 6.*\(24, 12\)"):
            quiet(SMALL, Wide())

    def test_a_batch_of_another_dtype_is_refused_with_both(self):
        with pytest.raises(TypeError, match=r"float32.*float64"):
            quiet(SMALL, Source(dtype=torch.float64))

    @pytest.mark.parametrize(
        ("field", "value", "words"),
        [
            ("steps", 0, "1 or more"),
            ("batch_size", 0, "1 or more"),
            ("n_saes", 0, "1 or more"),
            ("n_features", 0, "1 or more"),
            ("log_every", 0, "1 or more"),
            ("checkpoint_every", 0, "1 or more"),
            ("reinit_limit", 0, "1 or more"),
            ("seed", -1, "0 or more"),
            ("warmup", -1, "0 or more"),
            ("reinit_window", -1, "0 or more"),
            ("learning_rate", 0.0, "positive"),
            ("learning_rate", float("nan"), "positive"),
            ("reinit_threshold", float("inf"), "finite"),
            ("k", 0, "between 1 and n_features = 12"),
            ("k", 13, "between 1 and n_features = 12"),
            ("k", (3, 13), "between 1 and n_features = 12"),
            ("k", (3,), "n_saes = 2"),
            ("alpha", -1.0, "must be 0, positive"),
            ("alpha", float("nan"), "must be 0, positive"),
            ("alpha", float("inf"), "must be 0, positive"),
            ("device", "tpu", "auto, cpu"),
        ],
    )
    def test_impossible_values_are_refused(self, field, value, words):
        with pytest.raises(ConfigError, match=f"^{field}: .*{words}"):
            replace(SMALL, **{field: value})


def mfr_train(store, **fields):
    values = {"n_input_features": 24, "d_in": 12, "n_groups": 4, "n_active": 3, "n_features": 24, "k": 3,
              "batch_size": 64, "steps": 2000, "alpha": 2, "warmup": 200, "reinit": "always", "reinit_threshold": 0.7,
              "reinit_limit": 1000, "checkpoint_every": 7, "log_every": 5, "device": "cpu", **fields}  # fmt: skip
    pairs = [part for name, value in values.items() for part in ("-p", f"{name}={value}")]
    return subprocess.Popen(
        [sys.executable, "-m", "mfrbook", "train", "synthetic", "--profile", "smoke", *pairs],
        env={**os.environ, "MFR_CACHE": str(store)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.slow
def test_killed_at_any_moment_and_started_again_ends_with_the_same_bits(tmp_path):
    whole = mfr_train(tmp_path / "whole")
    _, errors = whole.communicate(timeout=300)
    assert whole.returncode == 0, errors.decode()

    chance, kills = random.Random(0), 0
    while True:
        process = mfr_train(tmp_path / "killed")
        begun = time.time_ns()
        wait = None if kills == 2 else chance.uniform(0, 0.6)
        while wait is not None and process.poll() is None:
            time.sleep(0.002)
            records = list((tmp_path / "killed").glob("unfinished/*/metrics.jsonl"))
            if any(one.stat().st_mtime_ns > begun for one in records):  # training has begun, the imports are over
                time.sleep(wait)
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
                break
        _, errors = process.communicate(timeout=300)
        if process.returncode != -signal.SIGKILL:
            break
    assert process.returncode == 0, errors.decode()
    assert kills == 2, "the run ended before it was killed often enough: make it longer"

    (one,), (other,) = (list((tmp_path / name).glob("synthetic/*")) for name in ("whole", "killed"))
    assert one.name == other.name
    for name in ("metrics.jsonl.gz", "weights.safetensors", "arrays.npz"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    heads = [json.loads((entry / "run.json").read_text()) for entry in (one, other)]
    assert heads[0]["results"] == heads[1]["results"]
    assert heads[0]["results"]["events"], "no re-initialisation: the test shows less than it should"
    assert not list((tmp_path / "killed").glob("unfinished/*"))


class Reads(TorchDispatchMode):
    """Counts how often a value leaves its tensor: on a GPU each of them waits for everything before it."""

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.number += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(options or {}))


def test_a_step_that_records_nothing_waits_for_nothing(monkeypatch):
    """Neither for the loss nor for the flag that stops training."""
    config = replace(SMALL, alpha=1.0, warmup=3, reinit_window=0, steps=40, log_every=20, checkpoint_every=100)

    seen = []

    class Watched(Source):
        def batch(self, step, shards=ALL_SHARDS):
            seen.append(reads.number)
            return super().batch(step, shards)

    monkeypatch.setattr(compiled, "available", lambda: False)  # the plain form is what runs on a GPU
    with Reads() as reads:
        train(config, Watched(), progress=False)
    steps = [after - before for before, after in itertools.pairwise(seen)]
    assert [step for step, n in enumerate(steps) if n] == [0, 20]


@pytest.mark.slow
def test_running_out_of_memory_says_what_to_lower():
    program = """
import resource, torch
from mfrlib.training.config import TrainingConfig
from mfrlib.training.loop import train
class Source:
    d_in, id = 1000, "test"
    def batch(self, step):
        return torch.randn(50_000, 1000)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
train(TrainingConfig(batch_size=50_000, n_features=3000, n_saes=1, k=5, device="cpu"), Source(), progress=False)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert re.search(r"MemoryError: memory ran out. Lower one of batch_size = 50000, n_features = 3000", done.stderr)


def test_a_batch_of_another_size_is_refused():
    """Its loss would count for less beside the penalty."""
    words = (
        r"data: batch\(0\) of the source must be a tensor of 24 rows, as batch_size = 24 asks for, given '.*\(20, 6\)'"
    )
    with pytest.raises(ConfigError, match=words):
        train(SMALL, Source(n=20), progress=False)


@pytest.mark.parametrize(
    ("batch", "given"),
    [
        (None, "NoneType"),
        ([[0.0] * 6] * 24, "list"),
        (np.zeros((24, 6), np.float32), "ndarray"),
        (torch.tensor(1.0), "float32"),
    ],
)
def test_what_is_no_batch_is_refused(batch, given):
    class Wrong(Source):
        def batch(self, step):
            return batch

    with pytest.raises(
        ConfigError, match=rf"data: batch\(0\) of the source must be a tensor of 24 rows.*given .*{given}"
    ):
        train(SMALL, Wrong(), progress=False)


@pytest.mark.parametrize(("scale", "warns"), [(1e-4, True), (0.1, False), (100.0, False), (1e6, True)])
def test_a_unit_that_the_optimiser_does_not_suit_is_said_once(scale, warns):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        train(replace(SMALL, steps=3), Source(scale=scale), progress=False)
    said = [str(one.message) for one in found]
    assert len(said) == warns
    assert all(
        re.match(r"data: rows have a root mean square of .*: divide the rows by x\.std\(\)", one) for one in said
    )


@pytest.mark.parametrize("sign", [-1, 0])
def test_a_weight_is_calibrated_on_a_loss_above_0_only(sign):
    """A negative one would push the SAEs apart."""

    def objective(sae, x):
        loss, output = reconstruct(sae, x)
        return sign * loss, output

    with pytest.raises(
        ConfigError, match=r"alpha: needs a loss above 0 at the first step, which has -?0.*; give a number"
    ):
        train(replace(SMALL, alpha="calibrate"), Source(), objective=objective, progress=False)


def test_processes_with_different_runs_are_refused_in_each_of_them(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        """
import os, torch
from dataclasses import replace
from mfrlib import TrainingConfig, train
rank = int(os.environ["RANK"])
config = TrainingConfig(steps=2, batch_size=16, n_features=12, k=3, device="cpu")
x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
other = x + rank
for settings, data in [(config, x), (replace(config, seed=rank), x), (config, other), (config, [other])]:
    try:
        said = train(settings, data, progress=False).metrics[0]["step"]
    except ValueError as error:
        said = error
    with open(f"{os.environ['SAID']}{rank}", "a") as file:
        print(said, file=file)
"""
    )
    start = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "--local-addr=127.0.0.1"]
    environment = {**os.environ, "SAID": str(tmp_path / "said"), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, *start, str(program)], env=environment, timeout=240, check=True)
    first, second = ((tmp_path / f"said{rank}").read_text() for rank in (0, 1))
    assert first == second
    words = ["0", "but seed is 0 in rank 0, 1 in rank 1; data", "but data is 'tensor:", "but start of the data is 'sha"]
    for line, expected in zip(first.splitlines(), words, strict=True):
        assert expected in line
        assert line == "0" or re.match("WORLD_SIZE is 2: .*unset WORLD_SIZE in each to train alone$", line)


@pytest.mark.parametrize(("name", "value"), [("optimizer", "sgd"), ("reduction", "medn"), ("k", 3.0), ("seed", True)])
def test_a_config_made_in_python_is_held_to_its_types(name, value):
    with pytest.raises(ConfigError, match=f"^{name}: must be"):
        replace(SMALL, **{name: value})
