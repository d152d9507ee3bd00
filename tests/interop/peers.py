"""What is done in another library's environment: its SAEs on our rows, ours by its own loader. Knows nothing of mfrlib.

`python peers.py LIBRARY FOLDER`: reads `x.safetensors` and exported SAEs below `FOLDER/ours`, writes SAEs of its own below
`FOLDER/theirs`, all outputs into `outputs.safetensors`, and versions into `versions.json`.
"""

import importlib.util
import json
import sys
import types
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def without_init(package):
    """Let modules of a package be imported without its `__init__`, which imports vision models or a tracing library."""
    module = types.ModuleType(package)
    module.__path__ = list(importlib.util.find_spec(package).submodule_search_locations)
    sys.modules[package] = module


def sae_lens(folder, x):
    from sae_lens import SAE, StandardSAE, StandardSAEConfig, TopKSAE, TopKSAEConfig

    def outputs(sae):
        return {"": sae(x), "/codes": sae.encode(x)}

    found = {}
    for one in sorted((folder / "ours").iterdir()):
        sae = SAE.load_from_disk(one)
        assert sae.cfg.metadata.hook_name == "some.hook", "the metadata were dropped"
        found |= {f"ours/{one.name}{what}": value for what, value in outputs(sae).items()}
    size = {"d_in": x.shape[1], "d_sae": 4 * x.shape[1]}
    made = {
        "topk": TopKSAE(TopKSAEConfig(**size, k=8)),
        "topk, rescaled": TopKSAE(TopKSAEConfig(**size, k=8, rescale_acts_by_decoder_norm=True)),
        "standard": StandardSAE(StandardSAEConfig(**size)),
        "standard, bias not subtracted": StandardSAE(StandardSAEConfig(**size, apply_b_dec_to_input=False)),
    }
    for name, sae in made.items():
        randomize(sae)
        sae.save_model(folder / "theirs" / name)
        found |= {f"theirs/{name}{what}": value for what, value in outputs(sae).items()}
    return found


def eai_sparsify(folder, x):
    from sparsify import SparseCoder, SparseCoderConfig

    def outputs(sae):
        top, indices, _ = sae.encode(x)
        return {"": sae(x).sae_out, "/codes": x.new_zeros(len(x), sae.num_latents).scatter(1, indices, top)}

    found = {}
    for one in sorted((folder / "ours").iterdir()):
        found |= {f"ours/{one.name}{what}": value for what, value in outputs(SparseCoder.load_from_disk(one)).items()}
    for name, options in {"topk": {}, "topk, decoder free": {"normalize_decoder": False}}.items():
        sae = SparseCoder(x.shape[1], SparseCoderConfig(expansion_factor=4, k=8, **options))
        randomize(sae)
        sae.save_to_disk(folder / "theirs" / name)
        found |= {f"theirs/{name}{what}": value for what, value in outputs(sae).items()}
    return found


def dictionary_learning(folder, x):
    without_init("dictionary_learning")
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    found = {}
    for one in sorted((folder / "tensors").glob("*.safetensors")):
        w = load_file(one)
        n, d = w["encoder"].shape
        sae = AutoEncoderTopK(d, n, int(w["k"]))
        state = {
            "encoder.weight": w["encoder"],
            "encoder.bias": w["bias"],
            "decoder.weight": w["weight"].T,
            "b_dec": torch.zeros(d),
        }
        sae.load_state_dict(state | {"k": sae.k, "threshold": sae.threshold})
        found |= {f"ours/{one.stem}": sae(x), f"ours/{one.stem}/codes": sae.encode(x)}
    return found


def overcomplete(folder, x):
    without_init("overcomplete")
    from overcomplete.sae import TopKSAE

    class Encoder(torch.nn.Module):
        def __init__(self, weight, bias):
            super().__init__()
            self.weight, self.bias = weight, bias

        def forward(self, x):
            hidden = x @ self.weight.T + self.bias
            return hidden, hidden

    found = {}
    for one in sorted((folder / "tensors").glob("*.safetensors")):
        w = load_file(one)
        n, d = w["encoder"].shape
        sae = TopKSAE(d, n, int(w["k"]), Encoder(w["encoder"], w["bias"]), {"normalization": "identity"})
        sae.dictionary._weights.data = w["weight"]
        codes = sae.encode(x)[1]
        found |= {f"ours/{one.stem}": sae.decode(codes), f"ours/{one.stem}/codes": codes}
    return found


def language_model(folder, x):
    """Cross-entropy with our exported SAEs put in by SAELens's own hooks, in TransformerLens's HookedTransformer."""
    from sae_lens import SAE, HookedSAETransformer
    from transformer_lens import HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
    from transformers import GPT2LMHeadModel

    where = json.loads((folder / "model.json").read_text())
    theirs = GPT2LMHeadModel.from_pretrained(where["folder"], use_safetensors=True, local_files_only=True).eval()
    shape = theirs.config
    config = HookedTransformerConfig(
        n_layers=shape.n_layer, d_model=shape.n_embd, n_ctx=shape.n_positions, n_heads=shape.n_head,
        d_head=shape.n_embd // shape.n_head, d_mlp=4 * shape.n_embd, d_vocab=shape.vocab_size, act_fn="gelu_new",
        normalization_type="LN", eps=shape.layer_norm_epsilon, device="cpu", dtype=torch.float32,
    )  # fmt: skip
    model = HookedSAETransformer(config)
    model.load_state_dict(convert_gpt2_weights(theirs, config), strict=False)
    tokens, skip = load_file(folder / "tokens.safetensors")["tokens"], where["skip"]

    def loss():
        logits = model(tokens)[:, skip:-1]
        targets = tokens[:, skip + 1 :]
        return torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(1)

    found = {"unmodified": loss()}
    for one in sorted((folder / "lm").iterdir()):
        sae = SAE.load_from_disk(one)
        for name, excluded in ((one.name, [where["bos"]]), (f"{one.name}/bos too", False)):
            model.add_sae(sae, exclude_special_tokens=excluded)
            assert model.acts_to_saes, "SAELens attached the SAE to nothing"
            found[name] = loss()
            model.reset_saes()
    return found


def randomize(sae):
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=draws)


LIBRARIES = {
    "sae-lens": (sae_lens, ("sae-lens", "transformer-lens")),
    "eai-sparsify": (eai_sparsify, ("eai-sparsify",)),
    "dictionary-learning": (dictionary_learning, ("dictionary-learning",)),
    "overcomplete": (overcomplete, ("overcomplete",)),
    "language-model": (language_model, ("sae-lens", "transformer-lens", "transformers")),
}


def main():
    run, packages = LIBRARIES[sys.argv[1]]
    torch.manual_seed(0)  # where a library's own SAEs start, so that a second comparison is of the same ones
    folder = Path(sys.argv[2])
    with torch.no_grad():
        found = run(folder, load_file(folder / "x.safetensors")["x"] if (folder / "x.safetensors").exists() else None)
    save_file({name: value.contiguous().clone() for name, value in found.items()}, folder / "outputs.safetensors")
    (folder / "versions.json").write_text(json.dumps({one: version(one) for one in (*packages, "torch")}))


if __name__ == "__main__":
    main()
