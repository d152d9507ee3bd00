"""Where models come from, and every folder that is not one."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from mfrlib.language_models.language_model import LanguageModel, next_token_loss
from mfrlib.language_models.pretrained.loading import load_pretrained
from mfrlib.language_models.pretrained.names import LanguageModelError, declared_id, find

pytest.importorskip("transformers")


@pytest.fixture
def folder(tmp_path):
    """A copy of the embedded model, as a user's own folder."""
    return shutil.copytree(find("tiny-lm"), tmp_path / "my-model")


def test_a_local_folder_is_the_model_it_holds(folder, tiny_lm):
    own = LanguageModel.load(str(folder))
    assert own.id == "my-model"
    assert own.hash == tiny_lm.hash
    assert own.encode(["some text"]) == tiny_lm.encode(["some text"])


def test_names_below_the_data_folder(folder, monkeypatch):
    monkeypatch.setenv("MFR_DATA", str(folder.parent))
    (folder.parent / "models").mkdir()
    folder.rename(folder.parent / "models" / "mine")
    assert find("mine") == folder.parent / "models" / "mine"
    assert declared_id("mine") == "mine"


def test_identity_holds_no_path(folder):
    assert declared_id(str(folder)) == "my-model"
    assert declared_id("openai-community/gpt2") == "openai-community/gpt2"


def test_the_model_is_in_float32_and_in_evaluation_mode():
    model = load_pretrained("tiny-lm").model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training


class TestRefused:
    def test_pickled_weights(self, folder):
        weights = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        torch.save(weights, folder / "pytorch_model.bin")
        with pytest.raises(LanguageModelError, match=r"only pickled ones, .* pytorch_model.bin"):
            LanguageModel.load(str(folder))

    def test_a_folder_without_weights(self, folder):
        (folder / "model.safetensors").unlink()
        with pytest.raises(LanguageModelError, match="no safetensors weights, nor any other"):
            LanguageModel.load(str(folder))

    def test_a_folder_without_a_config(self, tmp_path):
        with pytest.raises(LanguageModelError, match=r"there is no config.json"):
            LanguageModel.load(str(tmp_path))

    def test_weights_cut_short(self, folder):
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(LanguageModelError, match="cannot be loaded"):
            LanguageModel.load(str(folder))

    def test_weights_that_are_not_finite(self, folder):
        weights = load_file(folder / "model.safetensors")
        weights["transformer.ln_f.bias"][3] = float("nan")
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(LanguageModelError, match=r"weights are not finite: transformer.ln_f.bias"):
            LanguageModel.load(str(folder))

    @pytest.mark.parametrize("change", ["a weight is lost", "more layers are asked for", "saved without its head"])
    def test_weights_that_are_missing_are_not_drawn_at_random(self, folder, change):
        config, weights = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
        if change == "a weight is lost":
            del weights["transformer.h.0.mlp.c_fc.weight"]
        elif change == "more layers are asked for":
            config["n_layer"] += 1
        else:  # as an AutoModel is, whose embedding is no head either
            config["tie_word_embeddings"] = False
            weights = {name: value for name, value in weights.items() if "lm_head" not in name}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(LanguageModelError, match="weights that its configuration asks for are not there"):
            LanguageModel.load(str(folder))

    def test_a_tokenizer_of_another_vocabulary(self, folder):
        config = json.loads((folder / "config.json").read_text())
        weights = load_file(folder / "model.safetensors")
        weights["transformer.wte.weight"] = weights["transformer.wte.weight"][:1000].contiguous()
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 1000}))
        with pytest.raises(LanguageModelError, match="another vocabulary: ids up to 4095, the model has 1000"):
            LanguageModel.load(str(folder))

    def test_code_that_comes_with_a_model_is_not_run(self, folder, tmp_path):
        config = json.loads((folder / "config.json").read_text())
        config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        with pytest.raises(LanguageModelError, match="cannot be loaded"):
            LanguageModel.load(str(folder))
        assert not (tmp_path / "ran").exists()

    def test_a_model_that_is_no_causal_language_model(self, folder):
        (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
        with pytest.raises(LanguageModelError, match="cannot be loaded"):
            LanguageModel.load(str(folder))

    @pytest.mark.parametrize("name", ["./gpt2", "/no/such/folder", "a/b/c", "~/models/x", ""])
    def test_a_path_that_is_not_there(self, name):
        with pytest.raises(LanguageModelError, match="no such folder"):
            LanguageModel.load(name)

    @pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2"])
    def test_a_name_of_the_hub_offline(self, name):
        with pytest.raises(LanguageModelError, match=r"unset HF_HUB_OFFLINE.*give a folder.*'tiny-lm'"):
            LanguageModel.load(name)


def test_a_folder_without_a_tokenizer_is_a_model_of_tokens(folder):
    (folder / "tokenizer.json").unlink()
    assert LanguageModel.load(str(folder)).tokenizer is None


@pytest.mark.slow
def test_a_name_of_the_hub_that_was_fetched_before(folder, tmp_path):
    """The way by name, offline, on a cache laid out as the hub's library leaves it."""
    for name in ("tiny", "pickled"):
        snapshot = tmp_path / "hub" / f"models--someone--{name}" / "snapshots" / ("0" * 40)
        (snapshot.parent.parent / "refs").mkdir(parents=True)
        (snapshot.parent.parent / "refs" / "main").write_text("0" * 40)
        shutil.copytree(folder, snapshot)
    torch.save(load_file(snapshot / "model.safetensors"), snapshot / "pytorch_model.bin")
    (snapshot / "model.safetensors").unlink()
    code = """
from mfrlib.language_models.language_model import LanguageModel
for name in ("someone/tiny", "someone/pickled"):
    model = LanguageModel.load(name)
    print(model.id, model.hash)
"""
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["someone/tiny", LanguageModel.load("tiny-lm").hash], done.stderr
    assert done.returncode
    assert "model 'someone/pickled' is not a folder here and cannot be had" in done.stderr


@pytest.mark.slow
def test_gpt2_small_loads_from_a_folder_at_its_full_size(tmp_path, real_data):
    """Its weights are random here: what is tested is the way in, at d_model 768 and 50257 tokens."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

    torch.manual_seed(0)
    plain = GPT2LMHeadModel(GPT2Config(bos_token_id=50256, eos_token_id=50256)).eval()
    plain.save_pretrained(tmp_path / "gpt2")
    GPT2TokenizerFast.from_pretrained(real_data / "models" / "gpt2_bpe").save_pretrained(tmp_path / "gpt2")
    assert os.path.exists(tmp_path / "gpt2" / "model.safetensors")

    model = LanguageModel.load(str(tmp_path / "gpt2"))
    assert (model.d_model, model.n_layers, model.context, model.vocabulary, model.bos) == (768, 12, 1024, 50257, 50256)
    text = "SAEs are trained on the first layer's MLP output."
    ids = model.encode([text])[0]
    assert ids == AutoTokenizer.from_pretrained(tmp_path / "gpt2")(text)["input_ids"]
    assert model.decode(ids) == text
    tokens = torch.tensor([ids])
    with torch.no_grad():
        whole = plain(tokens, output_hidden_states=True)
    torch.testing.assert_close(model.logits(tokens), whole.logits, atol=1e-4, rtol=1e-4)
    assert model.width("blocks.0.hook_mlp_out") == 768
    found = model.activations(tokens, ["blocks.6.hook_resid_pre"])["blocks.6.hook_resid_pre"]
    torch.testing.assert_close(found, whole.hidden_states[6], atol=1e-4, rtol=1e-4)
    assert next_token_loss(whole.logits, tokens).item() == pytest.approx(10.8, abs=0.5)  # ln 50257
