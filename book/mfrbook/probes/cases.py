"""The probes: for each experiment, tiny runs that between them take every condition and switch that the archive uses."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mfrbook.experiments.values import config_class
from mfrbook.probes import inputs
from mfrbook.store.retired import build
from mfrbook.store.runs import Run
from mfrbook.store.store import Store

_SYNTHETIC: dict[str, Any] = {
    "steps": 14, "batch_size": 96, "n_saes": 2, "n_features": 48, "k": 6, "n_input_features": 48, "d_in": 24,
    "n_groups": 6, "n_active": 6, "log_every": 5, "seed": 3,
}  # fmt: skip
_RELEASED: dict[str, Any] = {
    "floor_groups": True, "n_input_features": 51, "support_rows": 200, "optimizer": "adam", "matching": "hungarian",
    "warmup": 8, "inactivity_power": 3, "n_active": 5, "k": 5,
}  # fmt: skip
_GPT2: dict[str, Any] = {
    "model": "tiny-lm", "text": str(inputs.TEXT), "steps": 8, "batch_size": 64, "n_saes": 3, "n_features": 384,
    "k": (2, 3, 8), "warmup": 3, "length": 32, "n_sequences": 60, "n_held_out": 8, "n_inserted": 4, "log_every": 3,
    "seed": 1,
}  # fmt: skip
_EEG: dict[str, Any] = {
    "data": "EDF", "steps": 8, "batch_size": 64, "n_saes": 3, "n_features": 128, "k": (6, 12, 24), "warmup": 3,
    "log_every": 3, "describe": False, "seed": 1,
}  # fmt: skip
_DENOISING: dict[str, Any] = {
    "data": "EDF", "eye_movements": "EYES", "steps": 6, "batch_size": 48, "n_saes": 2, "n_features": 96, "k": (6, 24),
    "warmup": 3, "test_recordings": 1, "test_seconds": 20.0, "test_snrs": (-4.0,), "log_every": 3, "seed": 1,
}  # fmt: skip
_END_TO_END: dict[str, Any] = {
    "text": str(inputs.TEXT), "steps": 3, "batch_size": 2, "n_features": 256, "length": 32, "n_sequences": 24,
    "n_held_out": 4, "n_usage": 8, "learning_rate": 0.01, "learning_rate_warmup": 1, "warmup": 2, "downstream": 1.0,
    "log_every": 1,
}  # fmt: skip
_E2E: dict[str, Any] = {"model": "tiny-lm", "hook": "blocks.1.hook_resid_pre", "n_saes": 2} | _END_TO_END

CASES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "synthetic": {
        "baseline": _SYNTHETIC,
        "penalty by the maximum and the sum": _SYNTHETIC | {"alpha": 3.0, "reduction": "sum"},
        "symmetric penalty on three": _SYNTHETIC | {"n_saes": 3, "alpha": 3.0, "direction": "symmetric"},
        "one-to-one penalty on released data": _SYNTHETIC | _RELEASED | {"alpha": 3.0},
        "released re-initialisation": _SYNTHETIC
        | _RELEASED
        | {"reinit": "always", "reinit_threshold": 1.2, "reinit_limit": 1000, "alpha": 3.0},
        "printed re-initialisation in its window": _SYNTHETIC
        | {"reinit": "window", "reinit_window": 6, "reinit_threshold": 0.55, "reinit_limit": 1000, "alpha": 0.5},
        "two k and a balanced weight": _SYNTHETIC | {"k": (4, 9), "alpha": "calibrate", "alpha_scale": 2.0},
        "raw decoder": _SYNTHETIC | {"decoder": "raw", "alpha": 0.5},
        "cut-off of negative values": _SYNTHETIC | {"activation": "relu", "k": 12},
        "learned bias": _SYNTHETIC | {"decoder_bias": True},
        "centred data": _SYNTHETIC | {"center": True},
        "reversed penalty, heavier weight decay": _SYNTHETIC | {"alpha": 3.0, "direction": "reversed", "weight_decay": 0.5},
        "all groups": _SYNTHETIC | {"n_active": 1, "n_active_groups": 6},
        "the paper's dimensions": {"steps": 4, "batch_size": 600, "alpha": 3.0, "log_every": 3, "seed": 5},
    },
    "coverage": {"penalty": _SYNTHETIC | {"alpha": 3.0, "steps": 8}},
    "groups": {"penalty": _SYNTHETIC | {"alpha": 3.0, "n_replicas": 2, "steps": 8}},
    "starts": {"released data": _SYNTHETIC | _RELEASED | {"n_saes": 3, "data_seed": 9}},
    "gpt2": {
        "baseline": _GPT2,
        "penalty balanced": _GPT2 | {"alpha": "calibrate", "alpha_scale": 4.0},
        "untrained block, consecutive tokens": _GPT2 | {"weights": "untrained-block", "shuffle": False, "n_inserted": 0},
        "revived features": _GPT2 | {"revival": 1 / 32, "revival_k": 16, "revival_after": 128},
        "frozen dictionary": _GPT2 | {"alpha": "calibrate", "frozen": True},
        "warm start": _GPT2 | {"warm_start": 5},
        "centred": _GPT2 | {"center": True},
    },
    "gpt2-features": {"both conditions": {"values": json.dumps(_GPT2), "n_sequences": 8, "n_features": 4, "seed": 1}},
    "end-to-end": {
        "local": _E2E | {"objective": "local", "sparsity": (1.0, 6.0)},
        "end to end": _E2E | {"objective": "e2e", "sparsity": (0.5, 2.0)},
        "downstream": _E2E | {"objective": "downstream", "sparsity": (3.0, 10.0)},
        "end to end with the penalty": _E2E | {"objective": "e2e", "sparsity": (0.5, 2.0), "alpha": "calibrate"},
    },
    "end-to-end-likeness": {"two seeds": {"profile": "smoke", "n_seeds": 2, "values": json.dumps(_END_TO_END)}},
    "eeg": {
        "baseline, described": _EEG | {"describe": True},
        "penalty by the loss": _EEG | {"alpha": "calibrate"},
        "all channels": _EEG | {"channels": "joint"},
        "inputs dropped": _EEG | {"input_dropout": 0.25},
    },
    "eeg-transforms": {"both": _EEG | {"searched": 40}},
    "denoising": {
        "noisy to clean with MFR": _DENOISING | {"alpha": "calibrate", "reinit": "window", "reinit_threshold": 1.9},
        "reconstruction": _DENOISING | {"learns": "reconstruction"},
        "classical": _DENOISING | {"learns": "nothing"},
    },
    "tiny-lm": {"five steps": {}},
}  # fmt: skip
"""Experiment → name of the probe → fields of its config. `EDF` and `EYES` stand for the files that `inputs` writes."""


def run(experiment: str, values: Mapping[str, Any], folder: Path) -> Run:
    """Compute a probe's run in an empty folder, with nothing stored to be taken for computed."""
    given = dict(values)
    if given.get("data") == "EDF":
        data = folder / "recordings"
        given["data"] = str(data if data.exists() else inputs.write_recordings(data))
    if given.get("eye_movements") == "EYES":
        given["eye_movements"] = str(inputs.write_eye_movements(folder / "eyes.npz"))
    return _RUNS.get(experiment, _of_config)(experiment, given, Store(folder / "store"))


def _of_config(experiment: str, values: Mapping[str, Any], store: Store) -> Run:
    from mfrbook.chapters import registry

    module = registry.load(experiment)
    return module.run(build(config_class(module), values), store, progress=False)


def _of_runs(experiment: str, values: Mapping[str, Any], store: Store) -> Run:
    from mfrbook.chapters import registry

    module = registry.load(experiment)
    return module.run(module.configure(values), store, progress=False)


def _tiny_lm(experiment: str, values: Mapping[str, Any], store: Store) -> Run:
    """Train tokenizer and model on the committed text, by the functions that the experiment itself uses."""
    from mfrbook.chapters.tiny_lm import recipe as tiny_lm
    from mfrbook.chapters.tiny_lm.runs import TinyLMConfig
    from mfrlib.data.text import documents as text

    config = TinyLMConfig(
        d_model=32, n_layers=2, n_heads=2, context=32, vocabulary=300, steps=5, batch_size=4, warmup=2, log_every=1
    )
    texts = {split: list(text.documents(str(inputs.TEXT), split)) for split in ("train", "held-out")}
    tokenizer = tiny_lm.train_tokenizer(texts["train"], config.vocabulary)
    trained, held_out = (tiny_lm.packed(some, tokenizer, config.context) for some in texts.values())
    folder = store.cache / "model"
    folder.mkdir(parents=True)
    model, metrics = tiny_lm.train(config, trained, folder, progress=False)
    results = {
        "held_out_loss": tiny_lm.held_out_loss(model, held_out),
        "unigram_loss": tiny_lm.unigram_loss(trained, held_out, config.vocabulary),
    }
    return Run("tiny-lm", {}, "", results, metrics, {"tokens": trained})


_RUNS: Mapping[str, Callable[[str, Mapping[str, Any], Store], Run]] = {
    "end-to-end-likeness": _of_runs,
    "gpt2-features": _of_runs,
    "tiny-lm": _tiny_lm,
}
