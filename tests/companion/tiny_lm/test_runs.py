"""The recipe at a tiny size, and the model in the package."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mfrbook.chapters.registry import load
from mfrbook.chapters.tiny_lm import recipe
from mfrbook.chapters.tiny_lm import runs as experiment
from mfrbook.chapters.tiny_lm.corpus import versions
from mfrbook.experiments.model_and_text import open_text
from mfrbook.store.store import Store
from mfrlib.config import ConfigError
from mfrlib.data.text.packing import pack
from mfrlib.language_models.language_model import LanguageModel, next_token_loss
from mfrlib.language_models.pretrained.names import find

pytest.importorskip("transformers")

SMALL = experiment.configure(
    {"steps": 12, "d_model": 16, "n_heads": 2, "n_layers": 1, "context": 16, "vocabulary": 257, "n_held_out": 5},
    "smoke",
)


@pytest.fixture
def sequences():
    return np.random.default_rng(0).integers(257, size=(30, 16))


class TestTokenizer:
    def test_any_text_comes_back(self):
        tokenizer = recipe.train_tokenizer(["Return the sum of the array elements."] * 20, 300)
        for text in ("Return the mean.", "é ☂\t漢字 \x00", "   deep\n\n    indentation\n"):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            assert tokenizer.decode(ids, skip_special_tokens=False) == text
        assert tokenizer.token_to_id(recipe.END_OF_TEXT) == 0

    def test_the_same_text_gives_the_same_tokenizer(self):
        texts = ["one two three two one", "three four five four"] * 5
        assert recipe.train_tokenizer(texts, 270).to_str() == recipe.train_tokenizer(texts, 270).to_str()


class TestMeasures:
    def test_unigram_loss_by_hand(self):
        trained = np.array([[0, 1, 1, 2]])  # after the first position: 1 twice, 2 once; each count plus one
        held_out = np.array([[0, 1, 3]])
        expected = -(np.log(3 / 7) + np.log(1 / 7)) / 2
        assert recipe.unigram_loss(trained, held_out, 4) == pytest.approx(expected)

    def test_an_untrained_model_has_about_the_uniform_loss(self, sequences):
        loss = recipe.held_out_loss(recipe.build(SMALL).eval(), sequences)
        assert loss == pytest.approx(np.log(257), abs=0.1)

    def test_the_learning_rate_rises_and_falls(self):
        config = replace(SMALL, steps=100, warmup=10, learning_rate=0.01)
        rates = [recipe.learning_rate(config, step) for step in range(100)]
        assert rates[0] == pytest.approx(0.001)
        assert max(rates) == rates[9] == rates[10] == pytest.approx(0.01)
        assert rates[10:] == sorted(rates[10:], reverse=True)
        assert rates[-1] == pytest.approx(0.001, rel=0.01)


class TestTraining:
    def test_a_pattern_is_learned(self, tmp_path):
        pattern = np.tile(np.arange(16), (30, 1))
        config = replace(SMALL, steps=60, warmup=5, learning_rate=0.01)
        model, metrics = recipe.train(config, pattern, tmp_path, progress=False)
        assert recipe.held_out_loss(model, pattern) < 0.5
        assert metrics[0]["loss"] > 5

    def test_a_stopped_training_goes_on_to_the_same_bits(self, tmp_path, sequences, monkeypatch):
        config = replace(SMALL, checkpoint_every=5)
        folders = [tmp_path / "whole", tmp_path / "stopped"]
        for folder in folders:
            folder.mkdir()
        whole, metrics = recipe.train(config, sequences, folders[0], progress=False)

        def until(config, step, rate=recipe.learning_rate):
            if step == 7:
                raise KeyboardInterrupt
            return rate(config, step)

        monkeypatch.setattr(recipe, "learning_rate", until)
        with pytest.raises(KeyboardInterrupt):
            recipe.train(config, sequences, folders[1], progress=False)
        monkeypatch.undo()
        resumed, resumed_metrics = recipe.train(config, sequences, folders[1], progress=False)
        for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
            assert torch.equal(one, other)
        assert resumed_metrics == metrics

    def test_a_damaged_checkpoint_is_not_used(self, tmp_path, sequences):
        first, _ = recipe.train(SMALL, sequences, tmp_path, progress=False)
        path = tmp_path / "checkpoint.safetensors"
        path.write_bytes(path.read_bytes()[:-9])
        again, _ = recipe.train(SMALL, sequences, tmp_path, progress=False)
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))

    def test_every_epoch_visits_each_sequence_once(self, tmp_path, monkeypatch):
        model, seen = recipe.build(SMALL), []
        model.register_forward_pre_hook(lambda _, given: seen.extend(given[0][:, 0].tolist()))
        monkeypatch.setattr(recipe, "build", lambda _: model)
        numbered = np.repeat(np.arange(30)[:, None], 16, axis=1)
        recipe.train(replace(SMALL, batch_size=4, steps=15), numbered, tmp_path, progress=False)
        assert sorted(seen[:30]) == sorted(seen[30:]) == list(range(30))
        assert seen[:30] != seen[30:]


class TestRun:
    def test_the_recipe_gives_a_model_that_loads(self, tmp_path):
        config = replace(SMALL, export=str(tmp_path / "model"))
        found = load("tiny-lm").run(config, Store(tmp_path / "store"), progress=False)
        model = LanguageModel.load(str(tmp_path / "model"))
        assert (model.d_model, model.n_layers, model.context, model.vocabulary, model.bos) == (16, 1, 16, 257, 0)
        about = json.loads((tmp_path / "model" / "card.json").read_text())
        assert about["held_out_loss"] == found.results["held_out_loss"]
        assert about["uniform_loss"] == pytest.approx(np.log(257))
        # What the card says of the loss is what the exported model has.
        text = experiment.corpus(config.n_documents)
        held_out = pack(text.held_out, model.encode, 0, 16, 5).tokens
        tokens = torch.from_numpy(held_out)
        loss = next_token_loss(model.logits(tokens), tokens).mean()
        assert loss.item() == pytest.approx(about["held_out_loss"], abs=1e-4)

    def test_a_finished_run_is_exported_without_training(self, tmp_path):
        store = Store(tmp_path / "store")
        one = experiment.run(SMALL, store, progress=False)
        again = experiment.run(replace(SMALL, export=str(tmp_path / "model")), store, progress=False)
        assert again.key == one.key
        assert again.provenance["finished"] == one.provenance["finished"]
        assert (tmp_path / "model" / "model.safetensors").exists()

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"vocabulary": 200}, "vocabulary: must be from 257"),
            ({"n_heads": 5}, "n_heads: must divide d_model = 32, given 5"),
            ({"steps": 0}, "steps: must be 1 or more"),
            ({"learning_rate": 0.0}, "learning_rate: must lie between 0 and 1"),
            ({"d_modle": 3}, "did you mean 'd_model'"),
        ],
    )
    def test_impossible_values(self, wrong, says):
        with pytest.raises(ConfigError, match=says):
            experiment.configure(wrong, "smoke")

    def test_a_vocabulary_that_the_text_does_not_give(self, tmp_path):
        config = replace(SMALL, vocabulary=60_000, n_documents=5)
        with pytest.raises(ConfigError, match=r"the text gives .* tokens only"):
            experiment.run(config, Store(tmp_path), progress=False)
        assert not list(tmp_path.glob("tiny-lm/*"))


def card():
    """Return what the embedded model is: config, text and its versions, losses, provenance."""
    return json.loads((find("tiny-lm") / experiment.CARD).read_text(encoding="utf-8"))


class TestEmbedded:
    """The model in the package."""

    def test_it_is_small_enough_and_large_enough(self):
        folder = find("tiny-lm")
        assert (folder / "model.safetensors").stat().st_size <= 6e6
        about = card()["config"]
        assert about["d_model"] >= 192
        assert about["n_layers"] >= 2

    def test_it_is_what_the_recipe_s_defaults_give(self):
        about = card()["config"]
        assert experiment.configure({}) == experiment.configure(about)

    def test_it_is_a_language_model(self):
        about = card()
        assert about["held_out_loss"] < about["unigram_loss"] - 2 < about["uniform_loss"] - 2
        assert about["held_out_loss"] == pytest.approx(about["held_out_loss_float32"], abs=1e-3)

    def test_its_loss_on_text_it_has_not_seen(self, tiny_lm):
        """Other versions of the libraries give other text, but not another language."""
        sequences = open_text(tiny_lm, split="held-out", n_sequences=50)
        with torch.no_grad():
            loss = torch.cat([next_token_loss(tiny_lm.logits(one), one) for one in sequences.iterate()]).mean()
        assert loss.item() == pytest.approx(card()["held_out_loss"], abs=0.4)

    @pytest.mark.slow
    def test_its_text_is_that_of_the_pinned_versions(self):
        about = card()
        same = experiment.corpus(about["config"]["n_documents"]).hash == about["text_hash"]
        assert same or versions() != about["text_versions"]
