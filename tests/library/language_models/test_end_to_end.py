"""SAEs in a language model: what an identity changes, whom gradients reach, and the losses by hand."""

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

from mfrlib.config import ConfigError
from mfrlib.language_models.end_to_end import Objective, insert, later_hooks, measure
from mfrlib.language_models.language_model import LanguageModelError, next_token_loss
from mfrlib.models.objectives import kl_divergence
from mfrlib.models.relu_sae import ReLUSAE, sparsity_loss
from mfrlib.models.sae import TopKSAE

HOOK, LATER = "blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre"


@pytest.fixture
def tokens(random_lm, draws):
    return torch.randint(random_lm.vocabulary, (3, 9), generator=draws)


def identity(n_saes=2, d_in=8):
    """Features in opposite pairs: ReLU(x) - ReLU(-x) = x."""
    sae = ReLUSAE(n_saes, d_in, 2 * d_in)
    both = torch.cat([torch.eye(d_in), -torch.eye(d_in)])
    with torch.no_grad():
        sae.weight.copy_(both.expand(n_saes, -1, -1))
        sae.encoder.copy_(sae.weight)
    return sae


def some_stack(draws, n_saes=2, kind="relu"):
    if kind == "topk":
        return TopKSAE(n_saes, 8, 16, 3, activation="relu", generator=draws)
    return ReLUSAE(n_saes, 8, 16, generator=draws)


class TestInsertion:
    def test_an_identity_changes_nothing(self, random_lm, tokens):
        found = insert(random_lm, identity(), HOOK, tokens, read=[LATER])
        torch.testing.assert_close(found.output.reconstruction[1], found.x)
        for one in found.new:
            torch.testing.assert_close(one, random_lm.logits(tokens), atol=1e-4, rtol=1e-4)
        assert found.kl.abs().max() < 1e-5

    @pytest.mark.parametrize("hook", [HOOK, "blocks.1.hook_mlp_out"])
    @pytest.mark.parametrize("skip", [0, 1, 4])
    def test_each_sae_is_what_a_pass_with_it_alone_gives(self, random_lm, tokens, draws, hook, skip):
        sae = some_stack(draws, 3)
        found = insert(random_lm, sae, hook, tokens, skip=skip, read=[LATER])
        whole = random_lm.activations(tokens, [hook])[hook]
        for one, (new, after) in enumerate(zip(found.new, found.later[LATER][1], strict=True)):
            rebuilt = sae(whole[:, skip:].flatten(0, 1)).reconstruction[one].view(3, 9 - skip, 8)
            alone = random_lm.run(tokens, read=[LATER], replace={hook: torch.cat([whole[:, :skip], rebuilt], 1)})
            torch.testing.assert_close(new, alone.logits, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(after, alone.activations[LATER], atol=1e-5, rtol=1e-4)

    def test_positions_left_alone_keep_their_predictions_and_count_for_nothing(self, random_lm, tokens, draws):
        found = insert(random_lm, some_stack(draws), HOOK, tokens, skip=2)
        assert found.x.shape == (3 * 7, 8)
        torch.testing.assert_close(found.new[0, :, :2], found.original[:, :2], atol=1e-5, rtol=1e-5)
        assert (found.new[0, :, 2:] - found.original[:, 2:]).abs().max() > 0.01
        cut = kl_divergence(found.original[:, 2:].flatten(0, 1), found.new[:, :, 2:].flatten(1, 2))
        torch.testing.assert_close(found.kl, cut)

    def test_an_unknown_hook_is_refused(self, random_lm, tokens, draws):
        with pytest.raises(LanguageModelError, match="no layer 7"):
            insert(random_lm, some_stack(draws), "blocks.7.hook_resid_pre", tokens)

    def test_an_sae_of_another_width_is_refused(self, random_lm, tokens):
        with pytest.raises(LanguageModelError, match=r"d_in .* 5.*has 8"):
            insert(random_lm, ReLUSAE(1, 5, 10), HOOK, tokens)


class TestLaterHooks:
    def test_are_the_residual_stream_before_every_later_block(self, random_lm):
        assert later_hooks(random_lm, "blocks.0.hook_resid_pre") == ("blocks.1.hook_resid_pre", LATER)
        assert later_hooks(random_lm, HOOK) == (LATER,)
        assert later_hooks(random_lm, "blocks.0.hook_mlp_out") == ("blocks.1.hook_resid_pre", LATER)

    def test_after_a_block_they_begin_one_later(self, random_lm):
        """Since `blocks.0.hook_resid_post` is `blocks.1.hook_resid_pre`: the replacement itself is no later activation."""
        assert later_hooks(random_lm, "blocks.0.hook_resid_post") == (LATER,)

    def test_the_last_block_has_none_and_downstream_is_refused_there(self, random_lm):
        assert later_hooks(random_lm, LATER) == ()
        with pytest.raises(ConfigError, match="must have a block after it"):
            Objective(random_lm, LATER, "downstream")


class TestObjectives:
    @pytest.mark.parametrize(
        "changes",
        [{"kind": "end-to-end"}, {"skip": -1}, {"skip": 1.5}, {"kl": -1.0}, {"downstream": -1.0}, {"p": 0.0},
         {"kl": float("nan")}, {"sparsity": torch.tensor([1.0, -1.0])}, {"bfloat16": "no"}],
    )  # fmt: skip
    def test_impossible_settings_are_refused_by_name(self, random_lm, changes):
        with pytest.raises(ConfigError, match=next(iter(changes))):
            Objective(**{"model": random_lm, "hook": HOOK, "kind": "e2e", **changes})

    def test_an_unknown_hook_and_a_skip_of_everything_are_refused(self, random_lm, tokens, draws):
        with pytest.raises(LanguageModelError, match="no layer 7"):
            Objective(random_lm, "blocks.7.hook_resid_pre", "local")
        for kind in ("local", "e2e"):
            with pytest.raises(ConfigError, match="skip"):
                Objective(random_lm, HOOK, kind, skip=9)(some_stack(draws), tokens)

    @pytest.mark.parametrize("kind", ["local", "e2e"])
    def test_a_sparsity_for_another_number_of_saes_is_refused(self, random_lm, tokens, kind):
        sae = ReLUSAE(2, 8, 12)
        with pytest.raises(
            ConfigError, match=r"sparsity: must be one number, or one for each of 2 SAEs, given tensor\("
        ):
            Objective(random_lm, HOOK, kind, torch.ones(3))(sae, tokens)
        assert Objective(random_lm, HOOK, kind, torch.tensor(1.0))(sae, tokens)[0].shape == (2,)

    def test_a_skip_that_is_no_number_is_refused(self, random_lm, tokens, draws):
        with pytest.raises(ConfigError, match="skip: must be int, given '1'"):
            insert(random_lm, some_stack(draws), HOOK, tokens, skip="1")

    def test_local_is_the_mean_squared_error_and_the_sparsity(self, random_lm, tokens, draws):
        sae, weights = some_stack(draws), torch.tensor([0.5, 2.0])
        loss, output = Objective(random_lm, HOOK, "local", weights, skip=1)(sae, tokens)
        x = random_lm.activations(tokens, [HOOK])[HOOK][:, 1:].flatten(0, 1)
        for one in range(2):
            expected = mse_loss(output.reconstruction[one], x) + weights[one] * output.codes[one].sum(-1).mean() / 8
            assert loss[one].item() == pytest.approx(expected.item(), rel=1e-5)

    def test_end_to_end_is_pytorch_s_divergence_of_the_inserted_from_the_original(self, random_lm, tokens, draws):
        sae = some_stack(draws)
        loss, _ = Objective(random_lm, HOOK, "e2e")(sae, tokens)
        found = insert(random_lm, sae, HOOK, tokens)
        original = found.original.flatten(0, 1).log_softmax(-1)
        for one in range(2):
            new = found.new[one].flatten(0, 1).log_softmax(-1)
            expected = torch.nn.functional.kl_div(new, original, log_target=True, reduction="batchmean")
            assert loss[one].item() == pytest.approx(expected.item(), rel=1e-4)

    def test_downstream_adds_the_mean_error_of_later_layers(self, random_lm, tokens, draws):
        sae, hook = some_stack(draws), "blocks.0.hook_resid_pre"
        options = {"sparsity": torch.tensor([1.0, 1.0]), "skip": 1}
        plain, output = Objective(random_lm, hook, "e2e", **options)(sae, tokens)
        loss, _ = Objective(random_lm, hook, "downstream", downstream=6.0, **options)(sae, tokens)
        read = later_hooks(random_lm, hook)
        found = insert(random_lm, sae, hook, tokens, skip=1, read=read)
        for one in range(2):
            errors = [mse_loss(found.later[name][1][one, :, 1:], found.later[name][0][:, 1:]) for name in read]
            assert (loss - plain)[one].item() == pytest.approx(6 / 2 * sum(errors).item(), rel=1e-4)
        assert (sparsity_loss(output.codes, 8) > 0).all()

    def test_kl_has_its_weight(self, random_lm, tokens, draws):
        sae = some_stack(draws)
        once, half = (Objective(random_lm, HOOK, "e2e", kl=weight)(sae, tokens)[0] for weight in (1.0, 0.5))
        torch.testing.assert_close(half, once / 2)

    def test_bfloat16_products_give_nearly_the_same_loss_and_gradient_in_float32(self, random_lm, tokens, draws):
        losses, gradients = [], []
        for bfloat16 in (False, True):
            sae = some_stack(torch.Generator().manual_seed(3))
            loss, _ = Objective(random_lm, HOOK, "downstream", downstream=1.0, bfloat16=bfloat16)(sae, tokens)
            loss.sum().backward()
            assert loss.dtype == torch.float32
            losses.append(loss.detach())
            gradients.append(torch.cat([one.grad.flatten() for one in sae.parameters() if one.grad is not None]))
        torch.testing.assert_close(*losses, rtol=0.03, atol=1e-3)
        assert torch.cosine_similarity(*gradients, dim=0) > 0.99
        assert not torch.equal(*losses)

    def test_topk_saes_have_no_sparsity_loss(self, random_lm, tokens, draws):
        sae = some_stack(draws, kind="topk")
        plain, weighed = (
            Objective(random_lm, HOOK, "e2e", sparsity)(sae, tokens)[0] for sparsity in (None, torch.ones(2))
        )
        assert torch.equal(plain, weighed)

    @pytest.mark.parametrize("kind", ["local", "e2e", "downstream"])
    @pytest.mark.parametrize("sae_kind", ["relu", "topk"])
    def test_gradients_reach_every_parameter_of_the_saes_and_nothing_else(
        self, random_lm, tokens, draws, kind, sae_kind
    ):
        sae = some_stack(draws, kind=sae_kind)
        loss, _ = Objective(random_lm, HOOK, kind, torch.ones(2), downstream=1.0, skip=1)(sae, tokens)
        loss.sum().backward()
        for name, parameter in sae.named_parameters():
            assert (parameter.grad.flatten(1).abs().amax(1) > 0).all(), name
        assert all(parameter.grad is None for parameter in random_lm.bridge.parameters())

    def test_an_sae_s_loss_depends_on_no_other(self, random_lm, tokens, draws):
        sae = some_stack(draws)
        loss, _ = Objective(random_lm, HOOK, "downstream", torch.ones(2), downstream=1.0)(sae, tokens)
        loss[0].backward()
        assert all(parameter.grad[1].abs().max() == 0 for parameter in sae.parameters())

    @pytest.mark.parametrize("kind", ["e2e", "downstream"])
    def test_gradients_through_the_model_are_those_of_finite_differences(self, double_lm, tokens, draws, kind):
        """Along random directions, centred."""
        sae = some_stack(draws).double()
        objective = Objective(double_lm, HOOK, kind, torch.tensor([0.3, 1.0]), downstream=2.0, skip=1)

        def value():
            return objective(sae, tokens[:1])[0].sum()

        value().backward()
        for parameter in sae.parameters():
            direction = torch.randn(parameter.shape, generator=draws, dtype=torch.float64)
            step, found = 1e-5, []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter += sign * step * direction
                    found.append(value().item())
                    parameter -= sign * step * direction
            slope = (found[0] - found[1]) / (2 * step)
            assert (parameter.grad * direction).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-7)


class TestMeasure:
    def test_an_identity_costs_nothing(self, random_lm, tokens):
        found = measure(random_lm, identity(), HOOK, [tokens], skip=1)
        for name in ("ce_increase", "kl"):
            assert np.abs(found[name]).max() < 1e-5, name
        assert found["explained_variance"] == pytest.approx([1, 1], abs=1e-6)
        assert found["later"][LATER] == pytest.approx([1, 1], abs=1e-6)
        assert found["l0"] == pytest.approx([8, 8])  # one of each pair

    def test_everything_against_plain_formulas(self, random_lm, tokens, draws):
        sae = some_stack(draws)
        found = measure(random_lm, sae, HOOK, [tokens[:2], tokens[2:]], skip=1)  # batches of unlike sizes
        whole = insert(random_lm, sae, HOOK, tokens, skip=1, read=[LATER])
        ce = next_token_loss(random_lm.logits(tokens)[:, 1:], tokens[:, 1:]).mean()
        assert found["ce"] == pytest.approx(ce.item(), rel=1e-5)
        x = whole.x.double().numpy()
        for one in range(2):
            new = next_token_loss(whole.new[one, :, 1:], tokens[:, 1:]).mean()
            assert found["ce_increase"][one] == pytest.approx((new - ce).item(), abs=1e-5)
            assert found["kl"][one] == pytest.approx(whole.kl[one].item(), rel=1e-4)
            assert found["l0"][one] == pytest.approx((whole.output.codes[one] > 0).float().sum(1).mean().item())
            error = ((whole.output.reconstruction[one].detach().numpy() - x) ** 2).sum()
            assert found["explained_variance"][one] == pytest.approx(1 - error / ((x - x.mean(0)) ** 2).sum(), rel=1e-5)
            after, with_sae = (
                value.detach().double().numpy() for value in (whole.later[LATER][0], whole.later[LATER][1][one])
            )
            after, error = after[:, 1:].reshape(-1, 8), ((with_sae - after)[:, 1:] ** 2).sum()
            assert found["later"][LATER][one] == pytest.approx(
                1 - error / ((after - after.mean(0)) ** 2).sum(), rel=1e-5
            )

    def test_explained_variance_is_of_sums_not_a_mean_of_ratios(self, random_lm, tokens):
        """One token whose variance is tiny would ruin the mean of ratios; here it weighs as little as it varies."""
        sae = identity(1)
        with torch.no_grad():
            sae.decoder_bias += 0.1
        x = random_lm.activations(tokens, [HOOK])[HOOK].flatten(0, 1)
        found = measure(random_lm, sae, HOOK, [tokens])["explained_variance"][0]
        total = (x - x.mean(0)).square().sum(-1)
        ratios = 1 - (0.1**2 * 8 / total).mean().item()
        assert found == pytest.approx(1 - len(x) * 0.1**2 * 8 / total.sum().item(), rel=1e-5)
        assert abs(found - ratios) > 1e-6

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    @pytest.mark.parametrize("kind", ["relu", "topk"])
    def test_saes_of_any_precision_are_measured_in_the_model_s(self, random_lm, tokens, draws, dtype, kind):
        sae = some_stack(draws, kind=kind)
        expected = measure(random_lm, sae, HOOK, [tokens], skip=1)
        found = measure(random_lm, sae.to(dtype), HOOK, [tokens], skip=1)
        assert found["ce"] == expected["ce"]
        for name in ("ce_increase", "kl", "explained_variance"):
            assert found[name] == pytest.approx(expected[name], rel=0.05, abs=0.02), name
        for objective in ("local", "e2e"):
            loss, _ = Objective(random_lm, HOOK, objective)(sae, tokens)
            assert loss.dtype in (torch.float32, dtype)

    def test_what_predicts_nothing_is_refused(self, random_lm, tokens, draws):
        with pytest.raises(ConfigError, match="batches: must give a batch at least"):
            measure(random_lm, some_stack(draws), HOOK, [])
        with pytest.raises(ConfigError, match="skip: must be from 0 to 7, given 8"):
            measure(random_lm, some_stack(draws), HOOK, [tokens], skip=8)

    def test_nothing_of_it_is_kept_for_gradients(self, random_lm, tokens, draws):
        sae = some_stack(draws)
        measure(random_lm, sae, HOOK, [tokens])
        assert all(parameter.grad is None for parameter in sae.parameters())
