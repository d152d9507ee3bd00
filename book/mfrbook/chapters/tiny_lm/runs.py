"""The embedded language model: how it was made, so that anyone can make it again, and what it is."""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from mfrbook.chapters.tiny_lm.corpus import corpus, versions
from mfrbook.chapters.tiny_lm.recipe import END_OF_TEXT, held_out_loss, packed, train, train_tokenizer, unigram_loss
from mfrbook.chapters.tiny_lm.recipe import build as build_model
from mfrbook.experiments.archived import DOCUMENTATION as TEXT
from mfrbook.experiments.planned import Profile, Profiles
from mfrbook.store.retired import build
from mfrbook.store.runs import Run, describe_config
from mfrbook.store.store import Store
from mfrlib.config import option, require, require_types

CARD = "card.json"


@dataclass(frozen=True, kw_only=True)
class TinyLMConfig:
    """Architecture, text and training; the defaults gave the embedded model."""

    seed: int = option(0, "seed of the weights and of the order of the text")
    d_model: int = option(192, "width of the residual stream")
    n_layers: int = option(3, "blocks")
    n_heads: int = option(6, "attention heads")
    context: int = option(128, "tokens of a sequence")
    vocabulary: int = option(4096, "tokens of the byte-level BPE")
    steps: int = option(3000, "training steps")
    batch_size: int = option(16, "sequences per step")
    learning_rate: float = option(0.003, "highest learning rate")
    warmup: int = option(100, "steps of linear warm-up of the learning rate")
    weight_decay: float = option(0.1, "of matrices")
    n_documents: int = option(0, "docstrings to train on; 0: all")
    n_held_out: int = option(2000, "sequences at most of the held-out docstrings, to measure the loss on")
    log_every: int = option(20, "steps between records", in_key=False)
    checkpoint_every: int = option(100, "steps between checkpoints", in_key=False)
    export: str = option("", "folder that the finished model is written to, too", in_key=False)

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require_types(self)
        for name in ("d_model", "n_layers", "n_heads", "steps", "batch_size", "n_held_out", "log_every"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be 1 or more")
        for name in ("seed", "warmup", "weight_decay", "n_documents"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "must be 0 or more")
        require(self.checkpoint_every >= 1, "checkpoint_every", self.checkpoint_every, "must be 1 or more")
        require(0 < self.learning_rate < 1, "learning_rate", self.learning_rate, "must lie between 0 and 1")
        require(self.context >= 2, "context", self.context, "must be 2 or more")
        require(257 <= self.vocabulary <= 2**16, "vocabulary", self.vocabulary,
                "must be from 257 (the bytes and the end of a text) to 65536")  # fmt: skip
        require(self.d_model % self.n_heads == 0, "n_heads", self.n_heads, f"must divide d_model = {self.d_model}")


_SMOKE = {
    "d_model": 32, "n_layers": 2, "n_heads": 2, "context": 32, "vocabulary": 300,
    "steps": 30, "n_documents": 50, "n_held_out": 20,
}  # fmt: skip
PROFILES = Profiles(smoke=Profile(_SMOKE, 1), quick=Profile({}, 1), published=Profile({}, 1))


def configure(values: Mapping[str, Any], profile: str = "quick") -> TinyLMConfig:
    """Return the config of a profile's size, with further fields changed."""
    return build(TinyLMConfig, {**PROFILES[profile].fields, **values})


def run(config: TinyLMConfig, store: Store | None = None, *, fresh: bool = False, progress: bool = True) -> Run:
    """Return the run of a config, from the store or computed; with `export`, write the model there as well."""

    def compute(folder: Path) -> Run:
        text = corpus(config.n_documents)
        tokenizer = train_tokenizer(text.train, config.vocabulary)
        require(tokenizer.get_vocab_size() == config.vocabulary, "vocabulary", config.vocabulary,
                f"the text gives {tokenizer.get_vocab_size()} tokens only: ask for fewer, or train on more text")  # fmt: skip
        trained = packed(text.train, tokenizer, config.context)
        held_out = packed(text.held_out, tokenizer, config.context, config.n_held_out)
        require(min(len(trained), len(held_out)) >= 1, "n_documents", config.n_documents, "give no sequence: more text")
        model, metrics = train(config, trained, folder, progress)
        loss = held_out_loss(model, held_out)
        weights = _half(model)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name].float())
        n_characters = sum(map(len, text.train))
        results = {
            "held_out_loss": held_out_loss(model, held_out),
            "held_out_loss_float32": loss,
            "unigram_loss": unigram_loss(trained, held_out, config.vocabulary),
            "uniform_loss": math.log(config.vocabulary),
            "parameters": sum(value.numel() for value in weights.values()),
            "train_documents": len(text.train),
            "train_characters": n_characters,
            "train_tokens": trained.size,
            "epochs": config.steps * config.batch_size / len(trained),
            "held_out_documents": len(text.held_out),
            "held_out_tokens": held_out.size,
            "text_hash": text.hash,
            "text_versions": versions(),
        }
        arrays = {"tokenizer": np.frombuffer(tokenizer.to_str().encode(), dtype=np.uint8)}
        return Run("tiny-lm", describe_config(config) | {"export": ""}, TEXT, results, metrics, arrays, weights)

    found = (store or Store()).compute("tiny-lm", config, TEXT, compute, fresh=fresh)
    if config.export:
        export(found, config, Path(config.export))
    return found


def export(run: Run, config: TinyLMConfig, folder: Path) -> None:
    """Write a run's model as a folder that transformers and `LanguageModel.load` read, each file in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"config": run.config, **run.results, "metrics": run.metrics, "provenance": run.provenance}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as name:
        new = Path(name)
        architecture = build_model(config).config
        architecture.architectures = ["GPT2LMHeadModel"]
        architecture.save_pretrained(new)
        save_file(run.weights, new / "model.safetensors", metadata={"format": "pt"})
        (new / "tokenizer.json").write_text(run.arrays["tokenizer"].tobytes().decode(), encoding="utf-8")
        (new / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        (new / CARD).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        for file in new.iterdir():
            file.chmod(0o644)
            os.replace(file, folder / file.name)


def _half(model: Any) -> dict[str, Tensor]:
    """Return the weights in half precision, the tied output layer once."""
    return {name: value.detach().half().contiguous() for name, value in model.named_parameters()}
