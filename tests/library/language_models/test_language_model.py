"""Hooks against plain transformers, replacements against models changed by hand, and what is refused."""

import subprocess
import sys

import pytest
import torch

from mfrlib.language_models.language_model import LanguageModel, LanguageModelError, next_token_loss
from mfrlib.language_models.pretrained.loading import load_pretrained

MODELS = ("tiny_lm", "stories")


@pytest.fixture(params=MODELS)
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def plain(model):
    """The same model in transformers alone, without a hook of TransformerLens."""
    return load_pretrained(model.id).model


@pytest.fixture
def tokens(model, draws):
    return torch.randint(model.vocabulary, (3, 20), generator=draws)


def mlps(plain):
    """The MLPs of GPT-2 or Llama."""
    return [block.mlp for block in (plain.transformer.h if hasattr(plain, "transformer") else plain.model.layers)]


def output_projection(mlp):
    return mlp.c_proj if hasattr(mlp, "c_proj") else mlp.down_proj


class TestAgainstTransformers:
    def test_logits(self, model, plain, tokens):
        with torch.no_grad():
            torch.testing.assert_close(model.logits(tokens), plain(tokens).logits, atol=1e-5, rtol=1e-5)

    def test_the_residual_stream_before_every_block(self, model, plain, tokens):
        with torch.no_grad():
            states = plain(tokens, output_hidden_states=True).hidden_states
        hooks = [f"blocks.{layer}.hook_resid_pre" for layer in range(model.n_layers)]
        found = model.activations(tokens, hooks)
        assert list(found) == hooks
        for hook, expected in zip(hooks, states, strict=False):
            torch.testing.assert_close(found[hook], expected, atol=1e-5, rtol=1e-5)

    def test_attention_outputs(self, model, plain, tokens):
        blocks = plain.transformer.h if hasattr(plain, "transformer") else plain.model.layers
        seen = []
        for block in blocks:
            attention = block.attn if hasattr(block, "attn") else block.self_attn
            attention.register_forward_hook(lambda module, given, out: seen.append(out[0]))
        with torch.no_grad():
            plain(tokens)
        for layer, expected in enumerate(seen):
            hook = f"blocks.{layer}.hook_attn_out"
            torch.testing.assert_close(model.activations(tokens, [hook])[hook], expected, atol=1e-5, rtol=1e-5)

    def test_mlp_outputs(self, model, plain, tokens):
        seen = []
        handles = [mlp.register_forward_hook(lambda module, given, out: seen.append(out)) for mlp in mlps(plain)]
        with torch.no_grad():
            plain(tokens)
        for handle in handles:
            handle.remove()
        for layer, expected in enumerate(seen):
            hook = f"blocks.{layer}.hook_mlp_out"
            torch.testing.assert_close(model.activations(tokens, [hook])[hook], expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(model.run(tokens, read=[hook]).activations[hook], expected, atol=1e-5, rtol=1e-5)

    def test_zero_ablation_is_a_model_whose_output_projection_is_zero(self, model, plain, tokens):
        found = model.logits_with(tokens, {"blocks.0.hook_mlp_out": torch.zeros_like})
        projection = output_projection(mlps(plain)[0])
        with torch.no_grad():
            for parameter in projection.parameters():
                parameter.zero_()
            expected = plain(tokens).logits
        assert (expected - model.logits(tokens)).abs().max() > 0.1
        assert (found - expected).norm() < 1e-5 * expected.norm()

    def test_the_loss(self, model, plain, tokens):
        with torch.no_grad():
            expected = [plain(one[None], labels=one[None]).loss for one in tokens]
        torch.testing.assert_close(next_token_loss(model.logits(tokens), tokens), torch.stack(expected))


class TestReplacement:
    def test_the_activation_itself_changes_nothing(self, model, tokens):
        hook = "blocks.0.hook_mlp_out"
        whole = model.run(tokens, read=[hook])
        for replacement in (lambda x: x, whole.activations[hook]):
            assert torch.equal(model.logits_with(tokens, {hook: replacement}), whole.logits)

    def test_what_is_read_at_a_replaced_hook_is_what_the_model_computed(self, model, tokens):
        before, after = "blocks.0.hook_mlp_out", "blocks.1.hook_resid_pre"
        plain = model.run(tokens, read=[before, after])
        changed = model.run(tokens, read=[before, after], replace={before: lambda x: 2 * x})
        assert torch.equal(changed.activations[before], plain.activations[before])
        expected = plain.activations[after] + plain.activations[before]
        torch.testing.assert_close(changed.activations[after], expected, atol=1e-5, rtol=1e-5)

    def test_gradients_reach_the_replacement_and_no_weight(self, model, tokens):
        hook = "blocks.1.hook_resid_pre"
        x = model.activations(tokens, [hook])[hook].double().float().requires_grad_()
        next_token_loss(model.logits_with(tokens, {hook: x}), tokens).sum().backward()
        assert all(parameter.grad is None for parameter in model.bridge.parameters())
        # Against finite differences, along the gradient itself.
        step = 1e-2 * x.grad / x.grad.norm()
        with torch.no_grad():
            up, down = (next_token_loss(model.logits_with(tokens, {hook: x + s * step}), tokens).sum() for s in (1, -1))
        assert ((up - down) / 2).item() == pytest.approx(1e-2 * x.grad.norm().item(), rel=0.05)

    def test_many_replacements_of_one_residual_stream_share_the_blocks_before(self, model, tokens):
        hook = "blocks.1.hook_resid_pre"
        x = model.activations(tokens, [hook])[hook]
        several = model.logits_with(tokens, {hook: lambda x: torch.cat([x, 0.5 * x, 0 * x])})
        assert several.shape == (9, 20, model.vocabulary)
        for part, scale in zip(several.chunk(3), (1, 0.5, 0), strict=True):
            torch.testing.assert_close(part, model.logits_with(tokens, {hook: scale * x}), atol=1e-5, rtol=1e-4)

    def test_no_hook_stays(self, model, tokens):
        before = model.logits(tokens)
        with pytest.raises(LanguageModelError):
            model.logits_with(tokens, {"blocks.0.hook_mlp_out": lambda x: x[..., :3]})
        model.logits_with(tokens, {"blocks.0.hook_mlp_out": torch.zeros_like})
        assert torch.equal(model.logits(tokens), before)


class TestActivations:
    def test_blocks_after_the_last_hook_are_not_computed(self, model, tokens):
        calls = []
        handles = [
            block.register_forward_hook(lambda module, given, out, number=number: calls.append(number))
            for number, block in enumerate(model.bridge.blocks)
        ]
        try:
            model.activations(tokens, ["blocks.0.hook_mlp_out"])
            model.activations(tokens, ["blocks.1.hook_resid_pre", "blocks.0.hook_mlp_out"])
            assert calls == [0, 0]
            model.activations(tokens, ["blocks.1.hook_mlp_out"])
            assert calls == [0, 0, 0, 1]
        finally:
            for handle in handles:
                handle.remove()

    def test_many_hooks_at_once_equal_one_by_one(self, model, tokens):
        last = model.n_layers - 1
        hooks = ["blocks.0.hook_mlp_out", "blocks.1.hook_resid_mid", f"blocks.{last}.hook_resid_post", "hook_embed"]
        together = model.activations(tokens, hooks)
        for hook in hooks:
            assert torch.equal(together[hook], model.activations(tokens, [hook])[hook])

    def test_they_are_float32_and_need_no_gradient(self, model, tokens):
        x = model.activations(tokens, ["blocks.0.hook_mlp_out"])["blocks.0.hook_mlp_out"]
        assert x.dtype == torch.float32
        assert not x.requires_grad
        assert x.shape == (3, 20, model.width("blocks.0.hook_mlp_out"))


class TestText:
    def test_text_comes_back(self, tiny_lm):
        text = "Return the natural logarithm of x, é ☂ 漢字.\n\n    >>> np.log(1)\n    0.0"
        assert tiny_lm.decode(tiny_lm.encode([text])[0]) == text

    def test_no_special_token_is_added(self, model):
        assert model.bos not in model.encode(["once upon a time"])[0]

    def test_every_token_has_a_text(self, tiny_lm):
        ids = tiny_lm.encode(["Return an array."])[0]
        assert "".join(tiny_lm.token_texts(ids)) == "Return an array."


class TestRefused:
    @pytest.mark.parametrize(
        ("hook", "says"),
        [
            ("blocks.0.hook_mlp_uot", "blocks.0.hook_mlp_out"),
            ("blocks.7.hook_mlp_out", "no layer 7, 'tiny-lm' has 3: 0 to 2"),
            ("blocks.0.hook_mlp_in", "use_hook_mlp_in is False"),
            ("blocks.0.attn.hook_pattern", "has no such activation"),
            ("quite something else", "names such as blocks.0.hook_mlp_out"),
        ],
    )
    def test_unknown_hooks(self, tiny_lm, hook, says):
        with pytest.raises(LanguageModelError, match=f"{hook}.*{says}"):
            tiny_lm.width(hook)
        with pytest.raises(LanguageModelError, match=says):
            tiny_lm.activations(torch.zeros(1, 2, dtype=torch.int64), [hook])
        with pytest.raises(LanguageModelError, match=says):
            tiny_lm.logits_with(torch.zeros(1, 2, dtype=torch.int64), {hook: torch.zeros_like})

    def test_one_name_in_place_of_a_list(self, tiny_lm):
        tokens = torch.zeros(1, 2, dtype=torch.int64)
        for call in (tiny_lm.activations, lambda tokens, hook: tiny_lm.run(tokens, read=hook)):
            with pytest.raises(LanguageModelError, match="hooks: must be a list of names"):
                call(tokens, "blocks.0.hook_mlp_out")

    def test_activations_that_are_no_vectors(self, stories):
        with pytest.raises(LanguageModelError, match=r"one vector for each position, has shape \(1, 2, 8, 8\)"):
            stories.width("blocks.0.attn.hook_z")

    def test_a_hook_that_this_model_does_not_compute(self, stories):
        with pytest.raises(LanguageModelError, match="'stories260K' has no such activation"):
            stories.width("hook_pos_embed")

    def test_an_sae_of_another_width(self, tiny_lm):
        tiny_lm.require_width("blocks.0.hook_mlp_out", 192)
        with pytest.raises(LanguageModelError, match=r"d_in of the SAE is 64, hook 'blocks.0.hook_mlp_out' .* has 192"):
            tiny_lm.require_width("blocks.0.hook_mlp_out", 64)
        tokens = torch.zeros(2, 4, dtype=torch.int64)
        for wrong in (torch.zeros(2, 4, 64), torch.zeros(3, 4, 192), torch.zeros(2, 5, 192)):
            with pytest.raises(LanguageModelError, match=r"has shape .*, the activation \(2, 4, 192\)"):
                tiny_lm.logits_with(tokens, {"blocks.0.hook_mlp_out": wrong})

    @pytest.mark.parametrize(
        ("tokens", "says"),
        [
            (torch.tensor([[0, 5000]]), "another vocabulary: ids from 0 to 5000, 'tiny-lm' has 4096"),
            (torch.tensor([[0, -1]]), "ids from -1 to 0"),
            (torch.zeros(1, 129, dtype=torch.int64), "129 positions, 'tiny-lm' has a context of 128"),
            (
                torch.zeros(3, dtype=torch.int64),
                r"must be an int64 tensor \(sequence, position\), given torch.int64 \(3,\)",
            ),
            (torch.zeros(1, 3), "given torch.float32"),
            (torch.zeros(0, 3, dtype=torch.int64), r"\(0, 3\)"),
        ],
    )
    def test_impossible_tokens(self, tiny_lm, tokens, says):
        with pytest.raises(LanguageModelError, match=says):
            tiny_lm.logits(tokens)

    @pytest.mark.parametrize("ids", [[-1], [5, 10**6], torch.tensor([3, -2])])
    def test_ids_of_no_token_have_no_text(self, tiny_lm, ids):
        with pytest.raises(LanguageModelError, match=r"ids: must be from 0 to \d+, given (-1|1000000|-2)$"):
            tiny_lm.decode(ids)
        assert tiny_lm.decode([]) == ""

    @pytest.mark.parametrize(
        ("call", "says"),
        [
            (
                lambda lm, tokens: lm.run(tokens, replace=["blocks.0.hook_mlp_out"]),
                "replace: must be a dict from hooks",
            ),
            (
                lambda lm, tokens: LanguageModel.load(None),
                "name: must be a name or a path, such as 'tiny-lm', given None",
            ),
            (
                lambda lm, tokens: LanguageModel("gpt2", None, "x"),
                r"model: .*LanguageModel\.load\(name\).*given 'gpt2'",
            ),
        ],
    )
    def test_arguments_of_another_type(self, tiny_lm, call, says):
        with pytest.raises(LanguageModelError, match=says):
            call(tiny_lm, torch.zeros(1, 3, dtype=torch.int64))

    def test_a_model_without_a_tokenizer_says_so_when_one_is_needed(self, tiny_lm):
        bare = LanguageModel(load_pretrained("tiny-lm").model, None, "bare")
        tokens = torch.tensor([[0, 5, 7]])
        assert torch.equal(bare.logits(tokens), tiny_lm.logits(tokens))
        with pytest.raises(LanguageModelError, match="'bare' has no tokenizer"):
            bare.encode(["text"])


def test_importing_the_package_imports_neither_library():
    code = "import mfrlib, mfrlib.language_models.language_model, mfrlib.language_models.activations, mfrlib.data.text.documents, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"transformers", "transformer_lens", "datasets", "tokenizers", "pyarrow"} & set(loaded)


def test_the_hash_is_that_of_the_weights_and_of_what_is_done_with_them(tiny_lm):
    other = load_pretrained("tiny-lm").model
    other.config.n_head *= 2
    assert LanguageModel(other, None, "tiny-lm").hash != tiny_lm.hash
    changed = load_pretrained("tiny-lm").model
    assert LanguageModel(load_pretrained("tiny-lm").model, None, "another name").hash == tiny_lm.hash
    with torch.no_grad():
        changed.transformer.h[0].mlp.c_proj.bias[0] += 1e-3
    assert LanguageModel(changed, None, "tiny-lm").hash != tiny_lm.hash
