"""Other ways to train Section 4.1's SAEs: centred, towards a frozen dictionary, and from the largest k's weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mfrbook.chapters.gpt2 import runs as gpt2
from mfrbook.chapters.gpt2 import variants
from mfrbook.store.store import Store
from mfrlib import TensorBatches, mutual_feature_penalty, train
from mfrlib.config import ConfigError, key_fields
from mfrlib.models.sae import TopKSAE
from mfrlib.randomness import generator
from mfrlib.training.loop import reconstruct

CONFIG = variants.VariantConfig(
    steps=24, batch_size=32, n_saes=3, n_features=24, k=(2, 3, 5), learning_rate=0.01, warmup=6, log_every=4,
    checkpoint_every=5, device="cpu",
)  # fmt: skip


@pytest.fixture
def source():
    draws = torch.Generator().manual_seed(0)
    return TensorBatches(torch.randn(320, 8, generator=draws) + 2, batch_size=32, seed=0)


def trained(config, source, folder=None):
    return variants.train_variant(config, source, folder, progress=False)


def test_by_default_it_is_the_library_s_training_under_its_key(source):
    one, other = trained(CONFIG, source), train(CONFIG, source, progress=False)
    assert torch.equal(one.sae.weight, other.sae.weight)
    assert one.metrics == other.metrics
    assert not {"center", "frozen", "warm_start"} & key_fields(CONFIG).keys()


class TestCentred:
    def test_it_is_the_sae_of_the_centred_rows_with_their_mean_put_back(self, source):
        found = trained(replace(CONFIG, center=True), source).sae
        mean = torch.cat([source.batch(step) for step in range(variants.CENTER_BATCHES)]).mean(0)
        torch.testing.assert_close(found.decoder_bias, mean.expand(3, 8))

        class Moved:
            d_in, id = 8, "moved"

            def batch(self, step):
                return source.batch(step) - mean

        inner = train(CONFIG, Moved(), progress=False).sae
        x = source.batch(0)
        torch.testing.assert_close(found(x).reconstruction, inner(x - mean).reconstruction + mean)

    def test_a_learned_shift_is_refused_beside_it(self):
        with pytest.raises(ConfigError, match="center"):
            replace(CONFIG, center=True, decoder_bias=True)


class TestFrozen:
    config = replace(CONFIG, alpha="calibrate", frozen=True)

    def test_alpha_is_that_of_the_mutual_penalty(self, source):
        mutual = train(replace(CONFIG, alpha="calibrate"), source, progress=False)
        assert trained(self.config, source).alpha == pytest.approx(mutual.alpha, rel=1e-6)

    def test_each_sae_is_pulled_with_what_the_mutual_penalty_gives_one(self, source):
        target = variants.frozen_dictionary(self.config, 8)
        pull = variants.TowardsFrozen(replace(self.config, warmup=0), source, target, alpha=3.0)
        sae = TopKSAE(3, 8, 24, (2, 3, 5), generator=generator(5))
        own, _ = pull(sae, pull.batch(0))
        (got,) = torch.autograd.grad(own.sum(), [sae.weight])
        plain = reconstruct(sae, source.batch(0))[0]
        assert own.tolist() == pytest.approx(plain.tolist())
        total = plain.sum()
        for one in sae.weight:
            total = total + 3.0 * 2 / 3 * mutual_feature_penalty(torch.stack([one, target]))
        torch.testing.assert_close(got, torch.autograd.grad(total, [sae.weight])[0])

    def test_it_draws_the_saes_to_the_frozen_dictionary(self, source):
        target = variants.frozen_dictionary(self.config, 8)

        def apart(config):
            return np.mean(
                [
                    mutual_feature_penalty(torch.stack([one, target])).item()
                    for one in trained(config, source).sae.weight
                ]
            )

        assert apart(replace(self.config, alpha_scale=10.0)) < apart(CONFIG) - 0.01

    def test_stopped_and_started_again_it_ends_with_the_same_bits(self, source, tmp_path):
        longer = replace(self.config, warmup=20)
        whole = trained(longer, source)
        trained(replace(longer, steps=10), source, tmp_path)
        again = trained(longer, source, tmp_path)
        assert torch.equal(again.sae.weight, whole.sae.weight)
        assert again.alpha == whole.alpha

    def test_without_a_penalty_it_is_refused(self):
        with pytest.raises(ConfigError, match="frozen"):
            replace(CONFIG, frozen=True)


class TestWarmStart:
    config = replace(CONFIG, warm_start=8, k=(2, 5, 3))

    def test_the_largest_k_is_trained_alone_and_the_others_from_its_weights(self, source):
        found = trained(self.config, source)
        alone = train(replace(CONFIG, n_saes=1, k=(5,)), source, progress=False)
        assert found.sae.k == (2, 5, 3)
        assert torch.equal(found.sae.weight[1], alone.sae.weight[0])
        first = found.metrics[0]["loss"]
        start = TopKSAE(2, 8, 24, (2, 3))
        with torch.no_grad():
            start.weight.copy_(alone.sae.weight.expand_as(start.weight))
            start.bias.copy_(alone.sae.bias.expand_as(start.bias))
        x = source.batch(0)
        expected = (start(x).reconstruction - x).square().mean(dim=(1, 2)).tolist()
        assert [first[0], first[2]] == pytest.approx(expected)
        assert first[1] == alone.metrics[0]["loss"][0]

    def test_records_are_of_the_steps_that_both_have(self, source):
        steps = [record["step"] for record in trained(self.config, source).metrics]
        assert steps == sorted(steps)
        assert max(steps) < 8

    def test_stopped_and_started_again_it_ends_with_the_same_bits(self, source, tmp_path):
        whole = trained(self.config, source)
        trained(replace(self.config, warm_start=6), source, tmp_path)
        again = trained(self.config, source, tmp_path)
        assert torch.equal(again.sae.weight, whole.sae.weight)

    @pytest.mark.parametrize("fields", [{"k": 3}, {"k": (5, 3, 5)}, {"alpha": 0.1}])
    def test_without_one_largest_k_or_with_a_penalty_it_is_refused(self, fields):
        with pytest.raises(ConfigError, match="warm_start"):
            replace(self.config, **fields)


def test_two_variants_at_once_are_refused():
    with pytest.raises(ConfigError, match="one of"):
        replace(CONFIG, center=True, warm_start=3)


@pytest.mark.parametrize("fields", [{"center": True}, {"warm_start": 4}, {"frozen": True, "alpha": "calibrate"}])
def test_the_experiment_trains_and_measures_them(fields, small_lm_folder, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"Number {i}. Return the sum of the elements.\n<|endoftext|>\n" for i in range(300)))
    values = {"steps": 8, "batch_size": 48, "n_features": 40, "n_saes": 3, "k": [2, 4, 6], "length": 16, "warmup": 2,
              "model": str(small_lm_folder), "text": str(text), "n_sequences": 64, "n_held_out": 8, "n_inserted": 4,
              "device": "cpu"}  # fmt: skip
    config = gpt2.configure({**values, **fields}, "smoke")
    run = gpt2.run(config, Store(tmp_path / "store"), progress=False)
    assert run.results["l0"] == [2, 4, 6]
    assert len(run.results["ce"]) == 3
    assert run.weights["weight"].shape == (3, 40, 32)
    assert (run.results["alpha"] > 0) == ("frozen" in fields)
