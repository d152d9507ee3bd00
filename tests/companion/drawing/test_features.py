import numpy as np
import pytest
import torch

from mfrbook.drawing.features.description import describe, least_alike, logit_effects, spread
from mfrlib.models.relu_sae import ReLUSAE
from mfrlib.models.sae import TopKSAE

HOOK = "blocks.1.hook_resid_pre"


@pytest.fixture
def tokens(tiny_lm, draws):
    return torch.randint(tiny_lm.vocabulary, (5, 30), generator=draws)


@pytest.fixture(params=["relu", "topk"])
def stack(request, tiny_lm, draws):
    if request.param == "relu":
        return ReLUSAE(2, tiny_lm.d_model, 40, generator=draws)
    return TopKSAE(2, tiny_lm.d_model, 40, 4, activation="relu", generator=draws)


def test_dense_codes_reconstruct_what_the_stack_does(tiny_lm, stack, draws):
    x = torch.randn(7, tiny_lm.d_model, generator=draws)
    output = stack(x)
    codes = stack.encode(x)[1]
    assert codes.shape == (7, 40)
    expected = output.reconstruction[1] - (0 if stack.decoder_bias is None else stack.decoder_bias[1])
    torch.testing.assert_close(codes @ stack.dictionary[1], expected, atol=1e-4, rtol=1e-4)


def test_features_are_described_by_what_they_are_active_on(tiny_lm, stack, tokens):
    numbers = [3, 17]
    batches = [tokens[:2], tokens[2:]]
    found = describe(tiny_lm, stack, 1, HOOK, batches, numbers, skip=1, n_passages=2, around=(3, 2), n_bins=5)
    whole = tiny_lm.activations(tokens, [HOOK])[HOOK][:, 1:]
    codes = stack.encode(whole.flatten(0, 1))[1].view(5, 29, 40).detach()
    for number, feature in zip(numbers, found, strict=True):
        own = codes[..., number]
        assert feature.number == number
        assert feature.rate == pytest.approx((own > 0).float().mean().item())
        assert feature.largest == pytest.approx(own.max().item(), rel=1e-5)
        assert sum(feature.counts) == (own > 0).sum()
        tops = [passage.activations[passage.peak] for passage in feature.passages]
        assert tops == pytest.approx(sorted(own.max(1).values.tolist(), reverse=True)[:2], rel=1e-5)
        sequence, place = divmod(int(own.argmax()), 29)
        first = feature.passages[0]
        start, stop = max(0, place - 3), min(29, place + 3)
        assert first.tokens == tiny_lm.token_texts(tokens[sequence, 1:][start:stop])
        assert first.activations == pytest.approx(own[sequence, start:stop].tolist(), rel=1e-4, abs=1e-6)


def test_a_dead_feature_has_no_passages(tiny_lm, draws, tokens):
    sae = ReLUSAE(1, tiny_lm.d_model, 12, generator=draws)
    with torch.no_grad():
        sae.bias[0, 4] = -1e6
    (feature,) = describe(tiny_lm, sae, 0, HOOK, [tokens], [4])
    assert (feature.rate, feature.largest, feature.passages, sum(feature.counts)) == (0, 0, [], 0)


@pytest.mark.parametrize("name", ["tiny_lm", "stories"])
def test_the_direct_path_is_what_a_small_step_at_the_end_does(request, name, draws):
    """Where no block comes after it, adding a little of a direction moves the logits by its effect over the norm's scale."""
    model = request.getfixturevalue(name)
    hook = f"blocks.{model.n_layers - 1}.hook_resid_post"
    tokens = torch.randint(model.vocabulary, (1, 6), generator=draws)
    last = model.activations(tokens, [hook])[hook][0, -1]
    centred = last - last.mean() if name == "tiny_lm" else last
    row = torch.randn(model.d_model, generator=draws)
    row -= row.mean()
    row -= centred * (row @ centred) / (centred @ centred)  # along it, the norm gives way
    row /= row.norm()
    effects = logit_effects(model, row[None])[0]
    with torch.no_grad():
        moved = model.logits_with(tokens, {hook: lambda x: x + 0.01 * row}) - model.logits(tokens)
    moved = moved[0, -1] - moved[0, -1].mean()
    assert torch.corrcoef(torch.stack([moved, effects]))[0, 1] > 0.999
    scale = centred.square().mean().sqrt()
    torch.testing.assert_close(moved, 0.01 * effects / scale, atol=0.02 * moved.abs().max().item(), rtol=0)


def test_effects_leave_the_mean_over_tokens_alone(tiny_lm, draws):
    effects = logit_effects(tiny_lm, torch.randn(3, tiny_lm.d_model, generator=draws))
    torch.testing.assert_close(effects.mean(-1), torch.zeros(3), atol=1e-5, rtol=0)


def test_promoted_and_suppressed_are_the_ends_of_the_effects(tiny_lm, draws, tokens):
    sae = ReLUSAE(1, tiny_lm.d_model, 12, generator=draws)
    (feature,) = describe(tiny_lm, sae, 0, HOOK, [tokens], [5], n_tokens=3)
    effects = logit_effects(tiny_lm, sae.dictionary[0, [5]])[0].sort(descending=True).values
    assert [value for _, value in feature.promoted] == pytest.approx(effects[:3].tolist(), rel=1e-5)
    assert [value for _, value in feature.suppressed] == pytest.approx(effects.flip(0)[:3].tolist(), rel=1e-5)


def test_features_are_spread_from_the_rarest_to_the_commonest():
    rates = torch.tensor([0.5, 0.0, 0.1, 0.3, 0.2, 0.4])
    assert spread(rates, 3) == [2, 3, 0]
    assert spread(rates, 9) == [2, 4, 3, 5, 0]
    assert spread(torch.zeros(4), 3) == []


def test_least_alike_are_those_no_other_dictionary_has():
    rows, others = torch.eye(4), torch.cat([torch.eye(4)[:2], torch.tensor([[0.0, 0.0, 1.0, 1.0]])])
    rates = torch.tensor([0.1, 0.1, 0.1, 0.1])
    found = least_alike(rows, others, rates, 2, 0.01, 0.5)
    assert {number for number, _ in found} == {2, 3}
    np.testing.assert_allclose([cosine for _, cosine in found], 0.5**0.5, rtol=1e-6)
    rates[2] = 0.9  # too often active to be told apart by what it is active on
    assert [number for number, _ in least_alike(rows, others, rates, 1, 0.01, 0.5)] == [3]
