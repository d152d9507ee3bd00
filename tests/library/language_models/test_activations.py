"""Batches of activations: pure in the step, each position once an epoch, one forward pass for all."""

import itertools

import numpy as np
import pytest
import torch

from mfrbook.experiments.model_and_text import open_text
from mfrlib.config import ConfigError
from mfrlib.data.batches import ALL_SHARDS, SHARDS, rows
from mfrlib.data.text.sequences import Sequences, TokenBatches
from mfrlib.language_models.activations import ActivationBatches, ActivationError, ModelReader, in_order
from mfrlib.language_models.end_to_end import Objective
from mfrlib.language_models.language_model import LanguageModel, LanguageModelError
from mfrlib.language_models.pretrained.loading import load_pretrained
from mfrlib.training.config import TrainingConfig
from mfrlib.training.loop import train

HOOKS = ("blocks.0.hook_mlp_out", "blocks.1.hook_resid_pre")
LENGTH, COUNT = 9, 35  # 35 sequences of 8 kept positions: 8 shards of 4 sequences, 3 left over


@pytest.fixture
def sequences(tiny_lm):
    return open_text(tiny_lm, n_sequences=COUNT, length=LENGTH)


@pytest.fixture
def reader(tiny_lm, sequences):
    return ModelReader(tiny_lm, sequences, HOOKS)


@pytest.fixture
def passes(tiny_lm, monkeypatch):
    """How many sequences went through the model."""
    seen, plain = [], tiny_lm.activations

    def spy(tokens, hooks):
        seen.append(len(tokens))
        return plain(tokens, hooks)

    monkeypatch.setattr(tiny_lm, "activations", spy)
    return seen


class Numbered:
    """A reader whose activations are their own sequence and position, so that batches can be read by eye."""

    hooks, skip = ("numbers",), 1

    def __init__(self, count=COUNT, length=LENGTH):
        self.sequences = Sequences(np.zeros((count, length), dtype=np.uint16), "numbered", True, 1)

    def width(self, hook):
        return 2

    def read(self, chosen):
        from mfrlib.language_models.activations import Block

        position = torch.arange(self.skip, self.sequences.length).expand(len(chosen), -1)
        sequence = torch.from_numpy(chosen)[:, None].expand_as(position)
        return Block({"numbers": torch.stack([sequence, position], -1).float()})


def numbered(count=COUNT, **changes):
    settings = {"batch_size": 16, "seed": 0, "buffer": 64} | changes
    return ActivationBatches(Numbered(count), "numbers", **settings)


def pairs(batch):
    return [tuple(row) for row in batch.int().tolist()]


class TestBatches:
    def test_an_epoch_shows_every_position_once(self):
        source = numbered()
        seen = [
            pair for step in range(16) for pair in pairs(source.batch(step))
        ]  # 16 · 16 = 32 sequences · 8 positions
        assert len(set(seen)) == len(seen) == 256
        assert source.epochs(16) == 1
        assert len({sequence for sequence, _ in seen}) == 32
        assert {position for _, position in seen} == set(range(1, 9))

    def test_the_next_epoch_has_another_order_and_takes_in_those_left_over(self):
        source = numbered()
        first, second = (sorted(p for s in range(16 * e, 16 * e + 16) for p in pairs(source.batch(s))) for e in (0, 1))
        assert len(set(second)) == 256
        assert {sequence for sequence, _ in first} != {sequence for sequence, _ in second}

    @pytest.mark.parametrize("batch_size", [1, 7, 8, 50, 300])
    @pytest.mark.parametrize("shuffle", [True, False])
    def test_a_batch_is_a_pure_function_of_the_step(self, batch_size, shuffle):
        source = numbered(batch_size=batch_size, shuffle=shuffle)
        forwards = [source.batch(step) for step in range(12)]
        for step in (11, 3, 7, 0):
            assert torch.equal(source.batch(step), forwards[step])
            assert torch.equal(numbered(batch_size=batch_size, shuffle=shuffle).batch(step), forwards[step])
            assert len(forwards[step]) == batch_size

    @pytest.mark.parametrize("batch_size", [3, 16, 21])
    def test_shards_are_parts_of_the_batch_wherever_they_are_computed(self, batch_size):
        for step in (0, 5):
            whole = numbered(batch_size=batch_size).batch(step)
            parts = [numbered(batch_size=batch_size).batch(step, [shard]) for shard in ALL_SHARDS]
            assert [len(part) for part in parts] == [len(rows(batch_size, shard)) for shard in ALL_SHARDS]
            assert torch.equal(torch.cat(parts), whole)
            assert torch.equal(numbered(batch_size=batch_size).batch(step, [2, 3]), torch.cat(parts[2:4]))

    def test_the_seed_decides(self):
        assert torch.equal(numbered(seed=1).batch(0), numbered(seed=1).batch(0))
        assert not torch.equal(numbered(seed=1).batch(0), numbered(seed=2).batch(0))

    def test_shuffled_rows_are_not_neighbours_in_the_text(self):
        """Of neighbouring rows of a shard, as many are neighbours in the text as chance has it: 1 in 32."""
        source = numbered(400, batch_size=800, buffer=10**6)
        neighbours = total = 0
        for step, shard in itertools.product(range(4), ALL_SHARDS):
            found = pairs(source.batch(step, [shard]))
            neighbours += sum(a[0] == b[0] and abs(a[1] - b[1]) == 1 for a, b in itertools.pairwise(found))
            total += len(found) - 1
        assert neighbours / total < 0.02

    def test_a_buffer_bounds_how_far_a_row_travels(self):
        """A block of one sequence: a shard shows all of a sequence before it shows another."""
        source = numbered(buffer=1)
        found = [sequence for step in range(16) for sequence, _ in pairs(source.batch(step, [0]))]
        assert all(len(set(found[start : start + 8])) == 1 for start in range(0, 32, 8))

    def test_consecutive_tokens(self):
        source = numbered(shuffle=False)
        for shard in ALL_SHARDS:
            found = [pair for step in range(16) for pair in pairs(source.batch(step, [shard]))]
            assert found == [(4 * shard + n, position) for n in range(4) for position in range(1, 9)]

    def test_it_is_a_source_for_training(self, reader):
        source = ActivationBatches(reader, HOOKS[0], batch_size=32, seed=0)
        config = TrainingConfig(steps=3, batch_size=32, n_features=256, k=8, learning_rate=1e-3)
        trained = train(config, source, progress=False)
        assert trained.sae.weight.shape == (2, 256, 192)


class TestModelReader:
    def test_rows_are_the_model_s_activations(self, tiny_lm, sequences, reader):
        source = ActivationBatches(reader, HOOKS[1], batch_size=64, shuffle=False)
        tokens = sequences.take(np.arange(4))
        expected = tiny_lm.activations(tokens, [HOOKS[1]])[HOOKS[1]][:, 1:]
        assert torch.equal(source.batch(0, [0])[:8], expected[0])
        assert source.d_in == 192
        assert source.batch(0).dtype == torch.float32

    def test_the_beginning_is_left_out_where_every_sequence_has_it(self, tiny_lm, sequences, reader):
        assert reader.skip == 1
        plain = open_text(tiny_lm, n_sequences=COUNT, length=LENGTH, bos=False)
        assert ModelReader(tiny_lm, plain, HOOKS).skip == 0
        kept = ModelReader(tiny_lm, sequences, HOOKS, skip=0).read(np.arange(2))[HOOKS[0]]
        assert torch.equal(kept[0, 0], kept[1, 0])
        assert torch.equal(kept[:, 1:], reader.read(np.arange(2))[HOOKS[0]])

    def test_one_forward_pass_serves_all_that_step_side_by_side(self, reader, passes):
        sources = [ActivationBatches(reader, hook, batch_size=16, seed=0) for hook in (*HOOKS, *HOOKS)]
        for step in range(16):
            batches = [source.batch(step) for source in sources]
            assert torch.equal(batches[0], batches[2])
        assert sum(passes) == 32  # one epoch of the sequences dealt out

    def test_blocks_that_nobody_holds_are_let_go(self, reader, passes):
        for _ in range(2):
            list(in_order(reader, HOOKS[0]))
        assert sum(passes) == 2 * COUNT

    def test_a_process_computes_its_own_shards_only(self, reader, passes):
        source = ActivationBatches(reader, HOOKS[0], batch_size=16, seed=0)
        for step in range(16):
            source.batch(step, [0, 1])
        assert sum(passes) == 2 * 4

    def test_in_order_is_everything_once(self, tiny_lm, sequences, reader):
        whole = torch.cat(list(in_order(reader, HOOKS[0], batch_size=8)))
        expected = tiny_lm.activations(sequences.take(np.arange(COUNT)), [HOOKS[0]])[HOOKS[0]][:, 1:]
        torch.testing.assert_close(whole, expected.flatten(0, 1), atol=1e-5, rtol=1e-5)


class TestRefused:
    def test_unknown_hooks(self, tiny_lm, sequences, reader):
        with pytest.raises(LanguageModelError, match=r"near: blocks.0.hook_mlp_out"):
            ModelReader(tiny_lm, sequences, ["blocks.0.hook_mlp_outt"])
        with pytest.raises(ValueError, match=r"hook: must be one of those read: blocks\.0"):
            ActivationBatches(reader, "blocks.2.hook_mlp_out", batch_size=8)
        with pytest.raises(ValueError, match="hooks: must name at least one"):
            ModelReader(tiny_lm, sequences, [])

    def test_a_run_of_another_model_s_activations_is_not_gone_on_with(self, sequences, tmp_path):
        """Of a model that was trained on meanwhile, or of another one that reads the same sequences."""
        model, hook = LanguageModel.load("tiny-lm"), HOOKS[0]
        config = TrainingConfig(steps=2, batch_size=16, n_features=16, k=2, device="cpu")

        def train_on(sequences, objective=None):
            if objective:
                source = TokenBatches(sequences, model.d_model, batch_size=16)
            else:
                source = ActivationBatches(ModelReader(model, sequences, HOOKS), hook, batch_size=16)
            folder = tmp_path / ("end-to-end" if objective else "local")
            return train(config, source, folder=folder, objective=objective, progress=False)

        def objective():
            return Objective(model, hook, "e2e")

        first = [train_on(sequences).weights["weight"], train_on(sequences, objective()).weights["weight"]]
        assert torch.equal(train_on(sequences).weights["weight"], first[0])
        assert torch.equal(train_on(sequences, objective()).weights["weight"], first[1])
        assert str(model.identity) == "tiny-lm"
        with torch.no_grad():
            next(model.bridge.parameters()).mul_(1.5)
        for again in (sequences, open_text(model, n_sequences=COUNT, length=LENGTH)):
            with pytest.raises(ConfigError, match="another run: data is"):
                train_on(again)
        with pytest.raises(ConfigError, match="another run: objective is"):
            train_on(sequences, objective())

    def test_tokens_of_another_vocabulary(self, tiny_lm):
        foreign = Sequences(np.full((9, 8), 50256, dtype=np.uint16), "foreign", True, 1)
        with pytest.raises(LanguageModelError, match="another vocabulary: ids from 50256"):
            ModelReader(tiny_lm, foreign, HOOKS)

    def test_sequences_that_are_too_long(self, tiny_lm):
        long = Sequences(np.zeros((9, 200), dtype=np.uint16), "long", True, 1)
        with pytest.raises(LanguageModelError, match="200 positions, 'tiny-lm' has a context of 128"):
            ModelReader(tiny_lm, long, HOOKS)

    def test_activations_that_are_not_finite(self, sequences):
        broken = load_pretrained("tiny-lm").model
        with torch.no_grad():
            broken.transformer.h[0].mlp.c_fc.weight[:] = 1e38  # finite, but its activations overflow
        model = LanguageModel(broken, None, "broken")
        with pytest.raises(ActivationError, match=r"at 'blocks.0.hook_mlp_out' are not finite: sequence 0, position 1"):
            ModelReader(model, sequences, ["blocks.0.hook_mlp_out"])

    def test_too_few_sequences_and_impossible_sizes(self, tiny_lm):
        few = open_text(tiny_lm, n_sequences=SHARDS - 1, length=8)
        with pytest.raises(ValueError, match=f"n_sequences: must be {SHARDS} or more, given {SHARDS - 1}"):
            ActivationBatches(ModelReader(tiny_lm, few, HOOKS), HOOKS[0], batch_size=8)
        with pytest.raises(ValueError, match="skip: must be from 0 to 7, given 8"):
            ModelReader(tiny_lm, few, HOOKS, skip=8)
        for wrong in ({"batch_size": 0}, {"buffer": 0}):
            with pytest.raises(ValueError, match="must be 1 or more, given 0"):
                numbered(**wrong)
