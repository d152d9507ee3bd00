"""Training on what the user has: tensors, arrays, loaders, generators."""

import copy
import json
import sys
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from mfrlib import ReLUSAE, TopKSAE, evaluate
from mfrlib.config import ConfigError
from mfrlib.data.in_memory import TensorBatches
from mfrlib.data.loader import IteratedBatches
from mfrlib.models.kernels import compiled
from mfrlib.randomness import WEIGHTS, generator
from mfrlib.training.checkpoint import called, require_own_folder
from mfrlib.training.config import TrainingConfig
from mfrlib.training.failures import TrainingDiverged
from mfrlib.training.loop import reconstruct, train

CONFIG = TrainingConfig(
    steps=30, batch_size=16, n_features=12, k=3, learning_rate=0.01, log_every=5, checkpoint_every=7, device="cpu"
)


FIRST = "optimizer/weight/0"


@pytest.fixture
def x(draws):
    return torch.rand(100, 4, generator=draws) @ torch.randn(4, 6, generator=draws)


def quiet(config, data, folder=None):
    return train(config, data, folder=folder, progress=False)


def same(one, other):
    for (name, a), (_, b) in zip(one.sae.named_parameters(), other.sae.named_parameters(), strict=True):
        assert torch.equal(a, b), name


@dataclass
class Held:
    """An objective with a setting."""

    value: Any

    def __call__(self, sae, x):
        return reconstruct(sae, x)

    def method(self, sae, x):
        return reconstruct(sae, x)


class Rule(Enum):
    ONE, OTHER = 1, 2


class Counted:
    """An iterable that fails at a batch, once."""

    def __init__(self, batches, fail=None):
        self.batches, self.fail, self.given = batches, fail, 0

    def __iter__(self):
        for one in self.batches:
            if self.given == self.fail:
                raise InterruptedError
            self.given += 1
            yield one


class TestWhatIsTaken:
    def test_a_tensor_an_array_and_its_batches_are_one(self, x):
        trained = quiet(CONFIG, x)
        for data in (x.numpy(), x.double().numpy(), x.double(), TensorBatches(x, 16, 0)):
            same(quiet(CONFIG, data), trained)
        assert trained.metrics[-1]["loss"][0] < 0.5 * trained.metrics[0]["loss"][0]

    def test_the_seed_orders_the_rows(self, x):
        draws = [TensorBatches(x, 16, seed).batch(0) for seed in (0, 1)]
        first = quiet(replace(CONFIG, steps=1, seed=1), x)
        same(first, quiet(replace(CONFIG, steps=1, seed=1), TensorBatches(x, 16, 1)))
        assert not torch.equal(*draws)

    @pytest.mark.parametrize("size", [1, 16, 24, 100])
    def test_an_iterable_is_cut_into_batches_whatever_its_own_are(self, x, size):
        whole = x.repeat(5, 1)  # the iterable is read again from its start where it ends
        same(quiet(CONFIG, list(x.split(size))), quiet(CONFIG, [whole]))

    def test_a_loader_of_tuples_of_one(self, x):
        loader = DataLoader(TensorDataset(x), batch_size=16)
        same(quiet(CONFIG, loader), quiet(CONFIG, list(x.split(16))))
        same(quiet(CONFIG, DataLoader(x.double().numpy(), batch_size=16)), quiet(CONFIG, loader))

    def test_a_generator_with_enough_rows(self, x):
        same(quiet(CONFIG, (one for one in x.repeat(5, 1).split(10))), quiet(CONFIG, [x]))

    @pytest.mark.parametrize("size", [3, 16, 24])
    def test_an_iterable_may_fill_the_same_memory_again(self, x, size):
        def refilled():
            memory = np.empty((size, 6), np.float32)
            for part in x.repeat(5, 1).split(size):
                memory[: len(part)] = part
                yield memory[: len(part)]

        same(quiet(CONFIG, refilled()), quiet(CONFIG, [x]))

    def test_batches_without_rows_are_passed_over(self, x):
        parts = [x[:0], x[:40], x[:0], x[40:], x[:0]]
        trained = quiet(CONFIG, parts)
        same(trained, quiet(CONFIG, [x]))
        assert evaluate(trained.sae, parts).results == evaluate(trained.sae, [x[:40], x[40:]]).results

    def test_rows_of_a_large_batch_are_copied_once(self, x):
        class Made(TorchDispatchMode):
            numbers = 0

            def __torch_dispatch__(self, function, types, arguments=(), options=None):
                found = function(*arguments, **(options or {}))
                self.numbers += 0 if function.is_view else found.numel()
                return found

        source = IteratedBatches([x.repeat(20, 1)], 10)
        with Made() as made:
            parts = [source.batch(step) for step in range(200)]
        assert torch.equal(torch.cat(parts), x.repeat(20, 1))
        assert made.numbers <= 2 * 20 * x.numel()  # once made, once filled

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ("rows.npy", "given 'str'"),
            ({"x": 1}, "given 'dict'"),
            (7, "given 'int'"),
            (None, "given 'NoneType'"),
            ([], "must give a row at least, given 'list'"),
            ([torch.zeros(0, 4), torch.zeros(0, 4)], "must give a row at least, given 'list'"),
            ([torch.zeros(4)], r"batch 0 of the data: must be a matrix .* given shape \(4,\)"),
            ([torch.zeros(4, 2), torch.zeros(4, 3)], r"batch 1 of the data: must have 2 columns, given \(4, 3\)"),
            ([(torch.zeros(4, 2), torch.zeros(4))], "tuple of one, given 'a tuple of 2'"),
            ([torch.zeros(4, 2, dtype=torch.int32)], r"batch 0 of the data: .*given torch\.int32"),
            (TensorDataset(torch.zeros(4, 2)), "a DataLoader.*given 'TensorDataset'"),
        ],
    )
    def test_what_is_no_data_is_refused(self, data, words):
        with pytest.raises(ConfigError, match=words):
            quiet(CONFIG, data)

    def test_an_iterator_that_runs_out_says_so(self, x):
        with pytest.raises(ConfigError, match=r"read once, and it ended in step 6\. .*steps of at most 6$"):
            quiet(CONFIG, iter(x.split(10)))
        quiet(replace(CONFIG, steps=6), iter(x.split(10)))

    def test_nan_in_a_batch_of_an_iterable_says_where(self, x):
        x[25, 3] = float("nan")
        with pytest.raises(ConfigError, match=r"batch 2 of the data: NaN or Inf.*row 5, column 3 is nan"):
            quiet(CONFIG, x.split(10))

    @pytest.mark.filterwarnings("ignore:data. rows have a root mean square")
    def test_a_loss_that_overflows_on_an_iterable_is_said(self, x):
        with pytest.raises(TrainingDiverged, match=r"loss is not finite at step 0.*smaller learning_rate"):
            quiet(CONFIG, [1e25 * x])


class TestFolder:
    def test_a_string_is_a_folder(self, x, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        trained = quiet(CONFIG, x, "run")
        assert (tmp_path / "run" / "metrics.jsonl").is_file()
        same(quiet(CONFIG, x, tmp_path / "run"), trained)
        with pytest.raises(ConfigError, match="folder: must be a path, given 7"):
            quiet(CONFIG, x, 7)

    def test_other_data_are_refused(self, x, tmp_path):
        quiet(CONFIG, x, tmp_path)
        changed = x.clone()
        changed[99, 5] += 1e-6
        for other in (changed, x.flip(0), [x], TensorBatches(x, 16, 5)):
            with pytest.raises(ConfigError, match=r"another run: data is 'tensor:.* there, '(tensor|iterable):.* here"):
                quiet(CONFIG, other, tmp_path)

    def test_another_objective_is_refused(self, x, tmp_path):
        def half(sae, batch):
            loss, output = reconstruct(sae, batch)
            return loss / 2, output

        quiet(CONFIG, x, tmp_path / "whole")
        train(CONFIG, x, folder=tmp_path / "half", objective=half, progress=False)
        with pytest.raises(ConfigError, match="another run: objective is"):
            train(CONFIG, x, folder=tmp_path / "whole", objective=half, progress=False)
        with pytest.raises(ConfigError, match="another run: objective is"):
            quiet(CONFIG, x, tmp_path / "half")

    def test_settings_of_an_objective_count_and_one_without_a_name_is_refused(self, x, tmp_path):
        summed = partial(reconstruct, reduction="sum")
        train(CONFIG, x, folder=tmp_path / "sum", objective=summed, progress=False)
        train(CONFIG, x, folder=tmp_path / "sum", objective=partial(reconstruct, reduction="sum"), progress=False)
        with pytest.raises(ConfigError, match="another run: objective is"):
            train(CONFIG, x, folder=tmp_path / "sum", objective=partial(reconstruct, reduction="mean"), progress=False)
        with pytest.raises(ConfigError, match=r"objective: must have a name.*<lambda>"):
            train(CONFIG, x, folder=tmp_path / "new", objective=lambda sae, x: reconstruct(sae, x), progress=False)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (np.float32(1), np.float32(100)),
            (np.arange(3), np.arange(3.0)),
            (np.ones((2, 3)), np.ones((3, 2))),
            (torch.tensor(2.0), torch.tensor(3.0)),
            (torch.ones(2).bfloat16(), torch.ones(2).half()),
            (torch.ones(2).requires_grad_(), torch.zeros(2).requires_grad_()),
            ((1, (2, 3)), (1, (2, 4))),
            ({"a": [1], "b": 2}, {"a": [2], "b": 2}),
            (Rule.ONE, Rule.OTHER),
            (torch.float32, torch.float64),
            (torch.relu, torch.tanh),
            (np.add, np.multiply),
            (Held(1), Held(2)),
            (partial(max, 1), partial(max, 2)),
            (torch.nn.MSELoss(), torch.nn.MSELoss(reduction="sum")),
            (TopKSAE(1, 2, 4, 2), TopKSAE(1, 2, 4, 2)),
        ],
    )
    def test_every_setting_of_an_objective_is_named(self, one, other):
        for made in (
            Held,
            lambda value: Held(value).method,
            lambda value: partial(Held(value), 3),
            lambda value: partial(reconstruct, value),
            lambda value: partial(reconstruct, a=[{"b": (value,)}]),
        ):
            assert called(made(one)) == called(made(copy.deepcopy(one)))
            assert called(made(one)) != called(made(other))

    @pytest.mark.parametrize(
        "value",
        [object(), lambda: 0, {1}, np.array([object()]), torch.eye(2).to_sparse(), torch.ones(1, device="meta")],
    )
    def test_a_setting_that_has_no_name_is_refused(self, x, value, tmp_path):
        train(replace(CONFIG, steps=1), x, objective=Held(value), progress=False)
        with pytest.raises(ConfigError, match=r"^objective: must have a name where there is a folder.*settings"):
            train(CONFIG, x, folder=tmp_path, objective=Held([value]), progress=False)

    def test_training_needs_no_console(self, x, monkeypatch):
        monkeypatch.setattr(sys, "stderr", None)
        for progress in (True, False):
            assert train(CONFIG, x, progress=progress).metrics

    @pytest.mark.parametrize("within", [torch.no_grad, torch.inference_mode])
    def test_what_the_caller_has_switched_off_is_on_in_training(self, x, within):
        """Activations are collected so."""
        with within():
            found = quiet(CONFIG, x * 1)
        same(found, quiet(CONFIG, x))

    def test_the_caller_s_default_type_and_device_change_no_bit(self, x):
        torch.set_default_dtype(torch.float64)
        try:
            with torch.device("meta"):
                found = quiet(CONFIG, x.double())
            assert torch.get_default_dtype() == torch.float64
        finally:
            torch.set_default_dtype(torch.float32)
        same(found, quiet(CONFIG, x))

    def test_the_caller_s_autocast_is_left_to_its_own_models(self, x, monkeypatch):
        monkeypatch.setattr(compiled, "available", lambda: False)
        types = set()

        def activations():
            while True:
                types.add((x @ x.T).dtype)
                yield x[:16]

        config = replace(CONFIG, alpha=1.0)
        with torch.autocast("cpu", torch.bfloat16):
            found = quiet(config, activations())
        assert types == {torch.bfloat16}
        same(found, quiet(config, [x[:16]]))

    def test_a_file_is_no_folder(self, x, tmp_path):
        (tmp_path / "run").write_text("mine")
        with pytest.raises(ConfigError, match="folder: must be a folder, not a file"):
            quiet(CONFIG, x, tmp_path / "run")
        assert (tmp_path / "run").read_text() == "mine"

    def test_a_folder_in_which_another_trains_is_refused(self, x, tmp_path):
        """Both would write their records into one file, and the weights of one could pass for the other's."""
        refused = []

        def meanwhile(step):
            with pytest.raises(ConfigError, match="folder: another process is training in it") as raised:
                quiet(CONFIG, x + 1, tmp_path)
            refused.append(raised)
            return {}

        one = train(CONFIG, x, folder=tmp_path, observe=meanwhile, progress=False)
        assert refused
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == len(one.metrics)
        same(one, quiet(CONFIG, x, tmp_path))  # afterwards it is free

    def test_a_folder_of_something_else_is_left_alone(self, x, tmp_path):
        quiet(CONFIG, x).sae.save(tmp_path)
        before = (tmp_path / "config.json").read_bytes()
        with pytest.raises(ConfigError, match="holds something else than a training run"):
            quiet(CONFIG, x, tmp_path)
        assert (tmp_path / "config.json").read_bytes() == before

    def test_a_checkpoint_that_nobody_says_whose_it_is_is_not_gone_on_with(self, x, tmp_path):
        quiet(CONFIG, x, tmp_path)
        (tmp_path / "config.json").unlink()
        with pytest.raises(ConfigError, match=r"a checkpoint without config\.json"):
            quiet(CONFIG, x + 1, tmp_path)

    @pytest.mark.parametrize(
        "change", ["no records", "records of something else", "no state", "other tensors", "garbled note"]
    )
    def test_a_folder_changed_by_hand_is_refused_in_a_sentence(self, x, tmp_path, change):
        quiet(CONFIG, x, tmp_path)
        records, weights = tmp_path / "metrics.jsonl", tmp_path / "checkpoint.safetensors"
        state = {"state": json.dumps({"step": 1})}
        {"no records": records.unlink,
         "records of something else": lambda: records.write_text("[]\n"),
         "no state": lambda: save_file(load_file(weights), weights),
         "other tensors": lambda: save_file({"a": torch.ones(1)}, weights, metadata=state),
         "garbled note": lambda: (tmp_path / "config.json").write_text("{")}[change]()  # fmt: skip
        with pytest.raises(ConfigError, match=r"folder: .*chang"):
            quiet(CONFIG, x, tmp_path)

    @pytest.mark.parametrize(
        "change",
        [
            lambda tensors, state: tensors.update(
                {f"{FIRST}/{name}": torch.zeros(1) for name in ("exp_avg", "exp_avg_sq")}
            ),
            lambda tensors, state: tensors.update(weight=tensors["weight"][:1]),
            lambda tensors, state: tensors.update(weight=tensors["weight"].half()),
            lambda tensors, state: tensors.update({f"{FIRST}/step": torch.zeros(1)}),
            lambda tensors, state: tensors.update(more=torch.zeros(1)),
            lambda tensors, state: tensors.pop(f"{FIRST}/exp_avg"),
            lambda tensors, state: [tensors.pop(name) for name in [*tensors] if name.startswith(FIRST)],
            lambda tensors, state: state.update(step=-2),
            lambda tensors, state: state.update(step=100),
            lambda tensors, state: state.update(step=1.5),
            lambda tensors, state: state.update(alpha="much"),
            lambda tensors, state: state.update(reinitializer="none"),
            lambda tensors, state: state["reinitializer"].update(born=[0]),
        ],
    )
    def test_a_checkpoint_of_other_shapes_types_or_steps_is_refused(self, x, tmp_path, change):
        """The optimiser would read and write beyond the end of a tensor that is too small."""
        quiet(CONFIG, x, tmp_path)
        weights = tmp_path / "checkpoint.safetensors"
        with safe_open(weights, "pt") as file:
            tensors, state = load_file(weights), json.loads(file.metadata()["state"])
        change(tensors, state)
        save_file({name: value.clone() for name, value in tensors.items()}, weights, {"state": json.dumps(state)})
        with pytest.raises(ConfigError, match="folder: its checkpoint or its records were changed"):
            quiet(replace(CONFIG, steps=50), x, tmp_path)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"objective": 3}, "objective: must be a function, given 3"),
            ({"observe": "loss"}, "observe: must be a function"),
            ({"config": {}}, "config: must be a TrainingConfig"),
        ],
    )
    def test_arguments_of_another_type_are_refused(self, x, given, words):
        with pytest.raises(ConfigError, match=words):
            train(**{"config": CONFIG, "data": x, **given})

    @pytest.mark.parametrize(
        ("objective", "given"),
        [
            (lambda sae, x: reconstruct(sae, x)[0], "given 'a loss of shape"),
            (lambda sae, x: (reconstruct(sae, x)[0].sum(), sae(x)), "a loss of shape"),
            (lambda sae, x: (reconstruct(sae, x)[0], None), "and NoneType"),
            (lambda sae, x: None, "NoneType and NoneType"),
        ],
    )
    def test_an_objective_that_gives_something_else_is_refused(self, x, objective, given):
        with pytest.raises(ConfigError, match=f"objective: must return the loss of each SAE.*{given}"):
            train(CONFIG, x, objective=objective, progress=False)

    @pytest.mark.parametrize("share", [0, 0.1])
    def test_gradients_of_any_layout_are_taken_as_plain_pytorch_takes_them(self, x, share):
        """By the bias there is none, or one number for all; by a transposed weight they lie the other way in memory."""

        def objective(sae, batch):
            loss = (batch @ sae.weight.mT).square().mean(dim=(1, 2))
            return loss + share * sae.bias.sum(1) if share else loss, sae(batch)

        trained, sae = (
            train(CONFIG, x, objective=objective, progress=False),
            CONFIG.new_stack(6, generator(0, WEIGHTS, 0)),
        )
        optimizer = torch.optim.AdamW(sae.parameters(), lr=CONFIG.learning_rate)
        for step in range(CONFIG.steps):
            optimizer.zero_grad()
            objective(sae, TensorBatches(x, 16, 0).batch(step))[0].sum().backward()
            optimizer.step()
        for name, value in sae.named_parameters():
            torch.testing.assert_close(trained.sae.get_parameter(name), value, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize(
        "objective",
        [
            torch.no_grad()(reconstruct),
            lambda sae, x: (reconstruct(sae, x)[0].long(), sae(x)),
            lambda sae, x: reconstruct(TopKSAE(2, 6, 12, 3), x),
        ],
    )
    def test_a_loss_without_a_gradient_by_the_weights_is_refused(self, x, objective):
        with pytest.raises(ConfigError, match="objective: its loss must have a gradient by the SAEs' weights"):
            train(CONFIG, x, objective=objective, progress=False)

    def test_a_config_of_one_s_own_may_have_plain_fields(self, x, tmp_path):
        @dataclass(frozen=True, kw_only=True)
        class Noted(TrainingConfig):
            note: int = 3

        fields = {**vars(CONFIG), "steps": 5}
        same(quiet(Noted(**fields), x, tmp_path), quiet(replace(CONFIG, steps=5), x))
        same(quiet(Noted(**vars(CONFIG)), x, tmp_path), quiet(CONFIG, x))
        with pytest.raises(ConfigError, match="another run: note is 3 there, 4 here"):
            quiet(Noted(**vars(CONFIG), note=4), x, tmp_path)

    @pytest.mark.parametrize(
        ("stack", "words"),
        [
            (ReLUSAE(2, 6, 12), "objective: a ReLUSAE needs a function from SAEs and a batch"),
            (TopKSAE(3, 6, 12, 3), "config: new_stack must give 2 SAEs"),
            (
                TopKSAE(2, 6, 12, 3).requires_grad_(False),
                "config: new_stack must give 2 SAEs whose parameters .* gradients",
            ),
        ],
    )
    def test_a_stack_of_one_s_own_that_cannot_be_trained_is_refused(self, x, stack, words):
        class Own(TrainingConfig):
            def new_stack(self, d_in, draws):
                return stack

        with pytest.raises(ConfigError, match=words):
            quiet(Own(**vars(CONFIG)), x)

    def test_what_is_observed_is_written_as_python_s_own(self, x, tmp_path):
        def observe(sae):
            return {"norms": sae.weight.norm(dim=-1).mean(1), "number": np.float32(2.5), 1: (2, 3)}

        found = train(CONFIG, x, folder=tmp_path, observe=observe, progress=False).metrics
        assert found == [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert found[0]["number"] == 2.5
        for wrong in (lambda sae: None, lambda sae: {"sae": sae}):
            with pytest.raises(ConfigError, match="observe: must return a dict of numbers"):
                train(CONFIG, x, observe=wrong, progress=False)

    @pytest.mark.parametrize("name", ["step", "loss", "inactivity", "penalty"])
    def test_what_is_observed_replaces_nothing_of_a_record(self, x, name):
        with pytest.raises(ConfigError, match=rf"observe: must give other names than .*{name}.*given \['{name}'\]"):
            train(CONFIG, x, observe=lambda sae: {name: 0}, progress=False)

    @pytest.mark.parametrize("named", [{}, {"id": b"bytes"}])
    def test_a_source_says_whose_data_it_gives(self, x, tmp_path, named):
        class Nameless:
            d_in = x.shape[1]
            vars().update(named)

            def batch(self, step):
                return x[: CONFIG.batch_size]

        with pytest.raises(ConfigError, match="data: a source needs an id, a string"):
            quiet(CONFIG, Nameless(), tmp_path)

    def test_a_stopped_run_on_an_iterable_ends_with_the_same_bits(self, x, tmp_path):
        whole = quiet(CONFIG, x.split(10), tmp_path / "whole")
        for fail in (3, 20, 40):
            with pytest.raises(InterruptedError):
                quiet(CONFIG, Counted(x.split(10), fail), tmp_path / "run")
        same(quiet(CONFIG, x.split(10), tmp_path / "run"), whole)

    @pytest.mark.parametrize("changed", [0, 60])
    def test_an_iterable_of_other_rows_is_refused_even_when_the_run_is_finished(self, x, tmp_path, changed):
        quiet(CONFIG, x.split(10), tmp_path)
        same(quiet(CONFIG, list(x.split(25)), tmp_path), quiet(CONFIG, x.split(10)))  # the same rows, cut otherwise
        x = x.clone()
        x[changed, 0] += 1e-6
        with pytest.raises(ConfigError, match=r"holds a run of 30 steps on other data.*a fixed seed"):
            quiet(CONFIG, x.split(10), tmp_path)

    def test_a_loader_that_shuffles_is_resumed_with_a_seed_only(self, x, tmp_path):
        def loader(seed):
            return DataLoader(TensorDataset(x), 16, shuffle=True, generator=torch.Generator().manual_seed(seed))

        trained = quiet(CONFIG, loader(0), tmp_path)
        same(quiet(CONFIG, loader(0), tmp_path), trained)
        with pytest.raises(ConfigError, match="in another order"):
            quiet(CONFIG, loader(1), tmp_path)


class TestMoreSteps:
    @pytest.mark.parametrize("as_batches", [False, True])
    def test_more_steps_prolong_a_finished_run_to_the_same_bits(self, x, tmp_path, as_batches):
        data = list(x.split(10)) if as_batches else x
        config = replace(CONFIG, alpha=1.0, warmup=20, reinit="always", reinit_threshold=0.9, reinit_limit=1000)
        quiet(config, data, tmp_path)
        prolonged = quiet(replace(config, steps=50), data, tmp_path)
        same(prolonged, quiet(replace(config, steps=50), data))
        assert [one["step"] for one in prolonged.metrics] == list(range(50))
        with pytest.raises(ConfigError, match="another run: steps is"):
            quiet(config, data, tmp_path)
        same(quiet(replace(config, steps=50), data, tmp_path), prolonged)

    def test_a_note_without_steps_is_one_of_the_default(self, tmp_path):
        for steps, fine in (({}, True), ({"steps": 9_999}, False), ({"steps": 10_001}, True), ({}, False)):
            given = {"data": "some", **steps}
            if fine:
                require_own_folder(tmp_path, given, {"steps": 10_000}, True)
                (tmp_path / "checkpoint.safetensors").touch()
            else:
                with pytest.raises(ConfigError, match="another run: steps is"):
                    require_own_folder(tmp_path, given, {"steps": 10_000}, True)

    def test_a_learning_rate_that_has_come_down_is_not_taken_up_again(self, x, tmp_path):
        config = replace(CONFIG, learning_rate_end=0.1)
        quiet(config, x, tmp_path)
        with pytest.raises(ConfigError, match="another run: steps is"):
            quiet(replace(config, steps=50), x, tmp_path)


def test_data_are_converted_before_the_loop(x, monkeypatch):
    taken = []
    plain = torch.Tensor.to

    def watched(self, *arguments, **options):
        if torch.float32 in arguments:
            taken.append(tuple(self.shape))
        return plain(self, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "to", watched)
    quiet(CONFIG, x.double().numpy().astype(np.float64))
    assert taken.count((100, 6)) == 1
    assert (16, 6) not in taken
