"""The same rows through our SAEs and through another library's, and how far apart the outputs are."""

import datetime
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import mfrlib
from mfrbook.experiments.model_and_text import sample
from mfrlib import export
from mfrlib.data.text.sequences import Sequences
from mfrlib.language_models.evaluation import insertion_losses
from mfrlib.language_models.pretrained.names import find
from mfrlib.models.untied import untied
from tests.benchmarks.environments import PROJECT, interpreter, peers

RESULT = PROJECT / "book" / "results" / "interop.json"
D, N, HOOK, SKIP = 64, 256, "blocks.0.hook_mlp_out", 1
LIMIT, NATS = 1e-6, 1e-4
"""Largest difference of an entry of a reconstruction, relative to the largest entry; and of a cross-entropy."""


def saes() -> dict[str, Any]:
    """Return SAEs of every form, away from where they start, by name."""
    draws = torch.Generator().manual_seed(0)
    made = {
        "TopK": mfrlib.TopKSAE(1, D, N, 16, generator=draws),
        "TopK, activation=relu": mfrlib.TopKSAE(1, D, N, 60, activation="relu", generator=draws),
        "TopK, decoder=raw": mfrlib.TopKSAE(1, D, N, 16, decoder="raw", generator=draws),
        "TopK, decoder_bias": mfrlib.TopKSAE(1, D, N, 16, decoder_bias=True, generator=draws),
        "TopK, negatives kept": mfrlib.TopKSAE(1, D, N, 200, generator=draws),
        "ReLU": mfrlib.ReLUSAE(1, D, N, generator=draws),
    }
    for sae in made.values():
        with torch.no_grad():
            for name, parameter in sae.named_parameters():
                size = 0.1 if name in ("weight", "encoder") else 0.05
                parameter += size * torch.randn(parameter.shape, generator=draws)
    return made


def run_peer(library: str, package: str, folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Run `peers.py` in a library's environment; return its outputs and the versions there."""
    script = Path(__file__).with_name("peers.py")
    alone = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    command = [str(interpreter(package)), str(script), library, str(folder)]
    done = subprocess.run(command, env=alone | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError(f"{library}: {done.stderr[-3000:]}")
    return load_file(folder / "outputs.safetensors"), json.loads((folder / "versions.json").read_text())


@torch.no_grad()
def library(name: str, folder: Path) -> dict[str, Any]:
    """Compare with one library: our SAEs there, and its own here where it has a format that we open."""
    x = torch.randn(2000, D, generator=torch.Generator().manual_seed(1))
    for part in ("ours", "theirs", "tensors"):
        (folder / part).mkdir(parents=True)
    save_file({"x": x}, folder / "x.safetensors")
    write = {"sae-lens": export.to_saelens, "eai-sparsify": export.to_sparsify}.get(name)
    made, lost = {}, {}
    for what, sae in saes().items():
        one = untied(sae)
        if write is export.to_saelens:
            (found,) = write(sae, folder / "ours" / what, model="tiny-lm", hook="some.hook", sample=x)
        elif write:
            (found,) = write(sae, folder / "ours" / what, sample=x)
        elif one.k is None or one.decoder_bias.any():
            continue  # dictionary_learning subtracts a decoder bias, overcomplete has none; both are TopK
        else:
            (found,) = export.to_saelens(sae, folder / "unused" / what, sample=x)
            tensors = {
                "encoder": one.encoder[0],
                "bias": one.bias[0],
                "weight": one.weight[0],
                "k": torch.tensor(one.k[0]),
            }
            save_file(
                {key: value.clone() for key, value in tensors.items()}, folder / "tensors" / f"{what}.safetensors"
            )
        made[what], lost[what] = sae, found
    outputs, versions = run_peer(name, name, folder)
    rows = []
    for what, sae in made.items():
        rows.append(_row("ours there", what, sae, x, outputs, f"ours/{what}", lost[what]))
    for place in sorted((folder / "theirs").iterdir()):
        rows.append(_row("theirs here", place.name, mfrlib.load_foreign(place), x, outputs, f"theirs/{place.name}"))
    return {"versions": versions, "rows": rows}


def _row(way: str, what: str, sae: Any, x: torch.Tensor, outputs: Any, key: str, lost: Any = None) -> dict[str, Any]:
    ours, codes = sae(x).reconstruction[0], sae.encode(x)[0]
    return {
        "way": way, "sae": what, "k": sae.k and sae.k[0],
        "difference": (ours - outputs[key]).abs().max().item(),
        "difference_of_codes": (codes - outputs[f"{key}/codes"]).abs().max().item(),
        "scale": ours.abs().max().item(),
        "rows": len(x),
        "rows_with_negatives": lost and lost.rows,
        "foretold": lost and lost.largest,
    }  # fmt: skip


@torch.no_grad()
def language_model(folder: Path) -> dict[str, Any]:
    """Compare the cross-entropy with exported SAEs put in by SAELens's hooks with ours."""
    model = mfrlib.LanguageModel.load("tiny-lm")
    tokens = sample(model, 64, 128, seed=0)
    tokens[:, 1:][tokens[:, 1:] == model.bos] = 1  # SAELens leaves out every such token, we the first position
    rows = model.activations(tokens, [HOOK])[HOOK][:, SKIP:].flatten(0, 1)
    made, written = {}, {}
    (folder / "lm").mkdir(parents=True)
    for k in (2, 16):
        config = mfrlib.TrainingConfig(n_saes=1, n_features=512, k=k, steps=300, batch_size=1024, device="cpu")
        with torch.enable_grad():
            made[f"k={k}"] = mfrlib.train(config, rows, progress=False).sae
        (written[f"k={k}"],) = export.to_saelens(
            made[f"k={k}"], folder / "lm" / f"k={k}", model="tiny-lm", hook=HOOK, sample=rows
        )
    held_out = sample(model, 16, 128, seed=1)
    held_out[:, 1:][held_out[:, 1:] == model.bos] = 1
    save_file({"tokens": held_out}, folder / "tokens.safetensors")
    (folder / "model.json").write_text(json.dumps({"folder": str(find("tiny-lm")), "bos": model.bos, "skip": SKIP}))
    outputs, versions = run_peer("language-model", "sae-lens", folder)
    sequences = Sequences(held_out.numpy().astype(np.uint16), "sample", True, len(held_out))
    found = []
    for name, sae in made.items():
        ours = insertion_losses(model, sae, sequences, HOOK, rows.mean(0), skip=SKIP)
        difference = np.abs(ours["ce"][0] - outputs[name].numpy()).max()
        unmodified = np.abs(ours["ce_unmodified"] - outputs["unmodified"].numpy()).max()
        found.append({
            "sae": name, "ours": float(ours["ce"].mean()), "theirs": outputs[name].mean().item(),
            "with_bos_replaced": outputs[f"{name}/bos too"].mean().item(), "unmodified": float(ours["ce_unmodified"].mean()),
            "difference": float(difference), "difference_unmodified": float(unmodified),
            "rows_with_negatives": written[name].rows,
        })  # fmt: skip
    return {"versions": versions, "model": "tiny-lm", "hook": HOOK, "sequences": len(held_out), "rows": found}


def made() -> dict[str, Any]:
    """Return when and with what the comparison was made."""
    names = ("torch", "transformers", "transformer-lens", "safetensors")
    ours = {"mfrlib": mfrlib.__version__, "python": platform.python_version(), **{one: version(one) for one in names}}
    return {"date": datetime.date.today().isoformat(), "versions": ours, "limits": {"difference": LIMIT, "nats": NATS}}


def pinned() -> dict[str, str]:
    """Return the versions that `peers.toml` asks for."""
    return {name: one["version"] for name, one in peers().items()}
