import numpy as np
import pytest
import torch

from mfrbook.experiments.model_and_text import drawn, sample, text_name
from mfrlib.language_models.language_model import next_token_loss


def test_the_name_of_a_text_holds_no_path(tmp_path):
    assert text_name(str(tmp_path / "a.jsonl")) == "a.jsonl"
    assert text_name("python-docs") == "python-docs"
    assert text_name("Skylion007/openwebtext") == "Skylion007/openwebtext"


def test_text_drawn_from_the_model(tiny_lm):
    train, held_out = (drawn(tiny_lm, 3, 8, split) for split in ("train", "held-out"))
    assert train.bos
    assert train.id == "lm:tiny-lm:sample:train"
    assert (train.tokens[:, 0] == tiny_lm.bos).all()
    assert not np.array_equal(train.tokens, held_out.tokens)


@pytest.fixture(params=["tiny_lm", "stories"])
def model(request):
    return request.getfixturevalue(request.param)


class TestSamples:
    def test_samples_begin_with_the_beginning_and_depend_on_the_seed_alone(self, model):
        one, same, other = (sample(model, 3, 12, seed=seed) for seed in (0, 0, 1))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        assert (one[:, 0] == model.bos).all()
        assert one.shape == (3, 12)

    def test_sampled_tokens_have_the_model_s_own_frequencies(self, tiny_lm):
        """Oracle: the first token after the beginning, 2000 times, against the probabilities."""
        drawn = sample(tiny_lm, 2000, 2)[:, 1]
        odds = tiny_lm.logits(torch.tensor([[tiny_lm.bos]]))[0, 0].softmax(-1)
        likely = odds.topk(5).indices
        counts = torch.bincount(drawn, minlength=tiny_lm.vocabulary)[likely] / 2000
        assert ((counts - odds[likely]).abs() < 4 * (odds[likely] / 2000).sqrt()).all()

    def test_colder_samples_are_likelier(self, model):
        hot, cold = (sample(model, 8, 30, temperature=t) for t in (1.0, 0.3))
        hot_loss, cold_loss = (next_token_loss(model.logits(one), one).mean() for one in (hot, cold))
        assert cold_loss < hot_loss

    def test_text_of_its_own_kind_is_easier(self, stories):
        own = sample(stories, 16, 100)
        web = torch.tensor(stories.encode(["The General Services Administration publishes guidance. " * 20])[0][:100])
        own_loss = next_token_loss(stories.logits(own), own).mean()
        assert own_loss < 2 < 3 < next_token_loss(stories.logits(web[None]), web[None]).mean()
