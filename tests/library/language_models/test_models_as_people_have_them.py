"""Architectures, tokenizers and precisions of models that people have, each tiny and random."""

import json
import shutil

import numpy as np
import pytest
import torch

from mfrbook.experiments.model_and_text import model_shape, sample
from mfrlib.language_models import evaluation
from mfrlib.language_models.end_to_end import insert
from mfrlib.language_models.language_model import LanguageModel, LanguageModelError
from mfrlib.language_models.pretrained.names import find
from mfrlib.language_models.tokens import open_sequences
from mfrlib.method import similarity
from mfrlib.method.penalty import mutual_feature_penalty
from mfrlib.models.sae import TopKSAE

transformers = pytest.importorskip("transformers")
pytest.importorskip("transformer_lens")

LIKE_LLAMA = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
              "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0}  # fmt: skip


def random_model(kind, vocabulary=97, **changes):
    """Return a random model of an architecture of transformers."""
    size = {**LIKE_LLAMA, "vocab_size": vocabulary}
    if kind.startswith("gemma"):
        size |= {"query_pre_attn_scalar": 8, "sliding_window": 6}
    if kind == "gpt2":
        size = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": vocabulary, "n_positions": 64,
                "bos_token_id": 0, "eos_token_id": 0}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(kind, **{**size, **changes})
        return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture
def saved(tmp_path):
    """Save a random model with the embedded model's tokenizer, and return its folder."""

    def save(kind, **changes):
        folder = find("tiny-lm")
        vocabulary = changes.pop("vocabulary", json.loads((folder / "config.json").read_text())["vocab_size"])
        random_model(kind, vocabulary, **changes).save_pretrained(tmp_path / "model")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(folder / name, tmp_path / "model")
        return tmp_path / "model"

    return save


class TestManySAEsInOnePass:
    KINDS = ("gpt2", "llama", "qwen3", "gemma2", "gemma3_text", "mistral")

    @pytest.fixture(params=KINDS)
    def model(self, request):
        return LanguageModel(random_model(request.param), None, request.param)

    @pytest.mark.parametrize("length", [2, 5, 12])  # about the sliding window of some, which changes their masks
    @pytest.mark.parametrize("hook", ["blocks.1.hook_resid_pre", "blocks.0.hook_resid_post", "blocks.0.hook_mlp_out"])
    def test_each_replacement_gives_what_it_gives_alone(self, model, hook, length):
        tokens = torch.randint(1, 97, (2, length), generator=torch.Generator().manual_seed(1))
        x = model.activations(tokens, [hook])[hook]
        alone = torch.cat([model.logits_with(tokens, {hook: scale * x}) for scale in (1, 0.5, 0)])
        stacked = torch.cat([x, 0.5 * x, 0 * x])
        for replacement in (stacked, lambda value: torch.cat([value, 0.5 * value, 0 * value])):
            if replacement is not stacked and hook.endswith("mlp_out") and model.id == "gpt2":
                continue
            torch.testing.assert_close(model.logits_with(tokens, {hook: replacement}), alone, atol=1e-4, rtol=1e-4)

    def test_what_comes_before_is_read_once_and_what_follows_for_each(self, model):
        tokens, hook = torch.tensor([[1, 2, 3], [4, 5, 6]]), "blocks.1.hook_resid_pre"
        names = ["blocks.0.hook_mlp_out", hook, "blocks.1.hook_mlp_out"]
        plain = model.run(tokens, read=names).activations
        found = model.run(tokens, read=names, replace={hook: torch.cat([plain[hook], 0 * plain[hook]])}).activations
        assert [len(found[name]) for name in names] == [2, 2, 4]
        for name in names:
            torch.testing.assert_close(found[name][:2], plain[name], atol=1e-5, rtol=1e-4)

    def test_gradients_are_those_of_each_alone(self, model):
        tokens, hook = torch.tensor([[1, 2, 3, 4]]), "blocks.1.hook_resid_pre"
        x = model.activations(tokens, [hook])[hook]
        scales = torch.tensor([1.0, 0.5], requires_grad=True)
        model.logits_with(tokens, {hook: scales[:, None, None] * x}).square().sum().backward()
        for i, scale in enumerate((1.0, 0.5)):
            alone = torch.tensor(scale, requires_grad=True)
            model.logits_with(tokens, {hook: alone * x}).square().sum().backward()
            assert scales.grad[i].item() == pytest.approx(alone.grad.item(), rel=1e-3)

    def test_stacks_are_inserted_and_measured(self, model):
        tokens, hook = torch.randint(1, 97, (3, 8)), "blocks.1.hook_resid_pre"
        stack = TopKSAE(2, 16, 32, (2, 4), generator=torch.Generator().manual_seed(0))
        both = insert(model, stack, hook, tokens, skip=1)
        for i, k in enumerate((2, 4)):
            one = TopKSAE(1, 16, 32, k)
            one.load_state_dict({name: value[i : i + 1] for name, value in stack.named_parameters()})
            alone = insert(model, one, hook, tokens, skip=1)
            torch.testing.assert_close(both.new[i], alone.new[0], atol=1e-4, rtol=1e-4)
            assert both.kl[i].item() == pytest.approx(alone.kl[0].item(), abs=1e-5)

    def test_gpt2_shares_the_blocks_before(self, tiny_lm):
        """The archive's runs on the embedded model were made so, and rounding depends on it."""
        tokens, hook, rows = torch.randint(1, tiny_lm.vocabulary, (3, 128)), "blocks.1.hook_resid_pre", []
        x = tiny_lm.activations(tokens, [hook])[hook]
        wider = {hook: x.repeat(2, 1, 1)}
        tiny_lm.logits_with(tokens, wider)  # the first call of a length finds out what the model can
        watched = tiny_lm.bridge.blocks[0].register_forward_hook(lambda *given: rows.append(len(given[-1])))
        tiny_lm.logits_with(tokens, wider)
        watched.remove()
        assert rows == [3]

    @pytest.mark.parametrize("n", [0, 3])
    def test_what_is_no_multiple_is_refused(self, model, n):
        with pytest.raises(LanguageModelError, match="has shape"):
            model.logits_with(torch.tensor([[1, 2], [3, 4]]), {"blocks.1.hook_resid_pre": torch.zeros(n, 2, 16)})


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: lambda _: x])
def test_a_replacement_of_another_library_is_refused_in_a_sentence(tiny_lm, wrap):
    with pytest.raises(LanguageModelError, match="must be or give a tensor, given ndarray"):
        tiny_lm.run(
            torch.ones(1, 4, dtype=torch.int64),
            replace={"blocks.0.hook_mlp_out": wrap(np.ones((1, 4, 192), np.float32))},
        )


class TestConfigurations:
    def test_a_model_that_takes_images_too_is_read_or_refused_in_a_sentence(self, tmp_path):
        text = {**LIKE_LLAMA, "vocab_size": 97, "query_pre_attn_scalar": 8, "sliding_window": 8}
        vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                  "image_size": 28, "patch_size": 14}  # fmt: skip
        config = transformers.AutoConfig.for_model(
            "gemma3", text_config=text, vision_config=vision, mm_tokens_per_image=4
        )
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
        assert model_shape(str(tmp_path)) == (16, 2, 64)
        try:
            model = LanguageModel.load(str(tmp_path))
        except LanguageModelError as error:
            assert "TransformerLens cannot read" in str(error)  # noqa: PT017
        else:
            assert model.vocabulary == 97
            assert model.width("blocks.0.hook_mlp_out") == 16

    @pytest.mark.parametrize("is_decoder", [False, True])
    def test_a_model_that_looks_at_later_tokens_is_refused(self, is_decoder):
        size = {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "vocab_size": 97,
        }
        model = transformers.BertLMHeadModel(transformers.BertConfig(**size, is_decoder=is_decoder)).eval()
        if is_decoder:
            assert LanguageModel(model, None, "like GPT").width("blocks.0.hook_mlp_out") == 16
        else:
            with pytest.raises(
                LanguageModelError, match=r"BertLMHeadModel looks at later tokens.*causal language model"
            ):
                LanguageModel(model, None, "bert")

    def test_a_path_too_long_to_be_one_is_refused(self, tmp_path):
        with pytest.raises(LanguageModelError, match="there is no such folder"):
            LanguageModel.load(tmp_path / ("x" * 300))

    @pytest.mark.parametrize("bos", [50256, None, 97])
    def test_a_beginning_that_no_token_of_the_vocabulary_is(self, bos):
        model = LanguageModel(random_model("gpt2", bos_token_id=bos, eos_token_id=bos), None, "small")
        assert model.bos is None
        with pytest.raises(LanguageModelError, match="no beginning-of-sequence token"):
            sample(model, 2, 8)

    def test_text_of_such_a_model_begins_without_one(self, saved, tmp_path):
        folder = saved("gpt2", bos_token_id=50256, eos_token_id=50256)
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "bos_token": None}))
        (tmp_path / "a.txt").write_text("some plain words " * 200)
        model, options = LanguageModel.load(str(folder)), {"n_sequences": 4, "length": 16, "split": "train"}
        for split in ("train", "held-out"):
            try:
                found = open_sequences(model, str(tmp_path / "a.txt"), **{**options, "split": split}, bos=False)
            except ValueError:
                continue  # one document lies on one side
            assert found.tokens.shape == (4, 16)
        with pytest.raises(ValueError, match="bos: must be false"):
            open_sequences(model, str(tmp_path / "a.txt"), **options)


class TestTokens:
    @pytest.fixture
    def added(self, saved):
        folder = saved("llama")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        tokenizer.add_special_tokens({"additional_special_tokens": ["<image_soft_token>"]})
        tokenizer.add_tokens(["plainadded"])
        tokenizer.save_pretrained(folder)
        return LanguageModel.load(str(folder))

    def test_a_token_that_was_added_is_in_no_text(self, added, tiny_lm):
        assert added.encode(["plain text"]) == tiny_lm.encode(["plain text"])

    def test_a_text_that_spells_it_is_read_as_it_is_spelt(self, added, tiny_lm):
        spelt = "of <image_soft_token> tokens"
        (ids,) = added.encode([spelt])
        assert max(ids) < added.vocabulary
        assert tiny_lm.decode(ids) == spelt

    def test_one_that_cannot_be_spelt_is_named(self, added):
        with pytest.raises(LanguageModelError, match="token 'plainadded', 4097, which 'model' does not have"):
            added.encode(["some", "plainadded words"])

    def test_a_vocabulary_that_is_another_s_is_still_refused(self, saved):
        with pytest.raises(LanguageModelError, match="another vocabulary"):
            LanguageModel.load(str(saved("llama", vocabulary=1000)))


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_a_model_of_half_precision_is_taken_in_single(self, dtype):
        half = LanguageModel(random_model("llama").to(dtype), None, "half")
        again = LanguageModel(random_model("llama").to(dtype).float(), None, "single")
        assert half.hash == again.hash != LanguageModel(random_model("llama"), None, "other").hash
        tokens, hook = torch.tensor([[1, 2, 3]]), "blocks.0.hook_mlp_out"
        assert half.activations(tokens, [hook])[hook].dtype == torch.float32
        sequences = open_sequences_of(tokens.repeat(8, 1))
        sae = TopKSAE(1, 16, 32, 4)
        losses = evaluation.insertion_losses(half, sae, sequences, hook, torch.zeros(16), skip=0)
        assert all(one.shape[-1] == 8 for one in losses.values())

    def test_dictionaries_of_half_precision_are_compared(self):
        a, b = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
        for measure in (similarity.mmcs, similarity.matched_cosine):
            assert measure(a, b).item() == pytest.approx(measure(a.float(), b.float()).item(), abs=0.01)
        assert mutual_feature_penalty(torch.stack([a, b]), "hungarian").isfinite()


def open_sequences_of(tokens):
    from mfrlib.data.text.sequences import Sequences

    return Sequences(tokens.numpy().astype("uint16"), "x", False, 1)


@pytest.mark.parametrize("tokens", ["some text", [[1, 2]], None])
def test_what_is_no_tensor_of_tokens_is_refused_in_a_sentence(tiny_lm, tokens):
    for call in (tiny_lm.run, tiny_lm.logits, lambda given: tiny_lm.activations(given, ["blocks.0.hook_mlp_out"])):
        with pytest.raises(LanguageModelError, match=r"tokens: must be an int64 tensor .* encode makes ids of texts"):
            call(tokens)


def test_the_hooks_are_listed(tiny_lm):
    assert {"blocks.0.hook_mlp_out", "blocks.2.hook_resid_pre"} <= set(tiny_lm.hooks)


@pytest.mark.parametrize(("vocabulary", "context"), [(97, 4), (5, 64), (3, 3), (2, 2)])
def test_toy_models_of_few_tokens_and_positions_are_taken(vocabulary, context):
    changes = {"bos_token_id": 0, "eos_token_id": 0}
    model = LanguageModel(random_model("gpt2", vocabulary, n_positions=context, **changes), None, "toy")
    tokens = torch.arange(2 * context).view(2, context) % vocabulary
    sae = TopKSAE(2, 16, 20, 3, generator=torch.Generator().manual_seed(0))
    assert insert(model, sae, "blocks.1.hook_resid_pre", tokens).kl.isfinite().all()
