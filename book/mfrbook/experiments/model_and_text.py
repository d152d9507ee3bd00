"""A language model and its text, opened once for all runs of a process."""

import functools
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mfrbook.experiments import docstrings, untrained
from mfrbook.experiments.archived import (
    ARTICLES,
    DOCUMENTATION,
    SAMPLE,
    absent_model,
    identity_of_model,
    identity_of_text,
    located_text,
)
from mfrbook.experiments.untrained import Weights
from mfrlib.config import checked, require
from mfrlib.data.identity import Identity, of_file
from mfrlib.data.text.documents import Split
from mfrlib.data.text.sequences import Sequences
from mfrlib.language_models.language_model import LanguageModel
from mfrlib.language_models.pretrained.gguf import SMOLLM2
from mfrlib.language_models.pretrained.names import (
    EMBEDDED,
    LanguageModelError,
    check_folder,
    declared_id,
    find,
)
from mfrlib.language_models.tokens import identity_of_sequences, open_sequences, token_type
from mfrlib.randomness import generator

OPENWEBTEXT = "Skylion007/openwebtext"
GPT2_WIDTH = 768
_SAMPLE = 31  # stream of a seed


class Opened(NamedTuple):
    """A language model and both sides of its text."""

    model: LanguageModel
    train: Sequences
    held_out: Sequences


def data_id(config: Any) -> str:
    """Return the identity of the training data of a config that names a `model` and a `text`.

    Raises
    ------
    LanguageModelError, TextError
        If the model or the text is not there.
    """
    return identity_of_sequences(identity_of_model(config.model), identity_of_text(config.text), "train")


def open_model_and_text(
    model: str,
    text: str,
    *,
    weights: Weights = "trained",
    seed: int = 0,
    n_train: int,
    n_held_out: int,
    length: int,
    bos: bool,
    device: str,
) -> Opened:
    """Open a model and its text; what is random in an untrained model has the seed given.

    The text does not depend on `weights`: what is drawn from the model is drawn from the trained one.
    """
    its = identity_of_model(model)
    train, held_out = _sequences(model, its, text, identity_of_text(text), n_train, n_held_out, length, bos, device)
    return Opened(_model(model, its, weights, 0 if weights == "trained" else seed, device), train, held_out)


# The identities tell apart what a name stood for before from what it stands for now.
@functools.lru_cache(maxsize=2)
def _model(name: str, its: Identity, weights: Weights, seed: int, device: str) -> LanguageModel:
    return untrained.load(name, weights, seed, device)


@functools.lru_cache(maxsize=2)
def _sequences(
    name: str,
    its: Identity,
    text: str,
    of_text: Identity,
    n_train: int,
    n_held_out: int,
    length: int,
    bos: bool,
    device: str,
) -> tuple[Sequences, Sequences]:
    model = _model(name, its, "trained", 0, device)
    if text == SAMPLE:
        return drawn(model, n_train, length, "train"), drawn(model, n_held_out, length, "held-out")
    cut = partial(open_text, model, text, length=length, bos=bos)
    return cut(split="train", n_sequences=n_train), cut(split="held-out", n_sequences=n_held_out)


def open_text(
    model: LanguageModel, text: str = DOCUMENTATION, split: Split = "train", *, n_sequences: int, **options: Any
) -> Sequences:
    """Open a text as `mfrlib.language_models.tokens.open_sequences` does, also those that experiments know by name.

    The archive's `web-articles` are those of `MFR_DATA`; `python-docs` is the documentation on this machine, split by module.
    """
    if text != DOCUMENTATION:
        return open_sequences(model, located_text(text), split, n_sequences=n_sequences, **options)
    checked({"split": split}, {"split": Split})
    its = identity_of_text(text)
    return open_sequences(model, docstrings.documents(split), split, n_sequences=n_sequences, identity=its, **options)


def drawn(model: LanguageModel, n_sequences: int, length: int, split: Split) -> Sequences:
    """Return text drawn from the model itself, at temperature 1."""
    tokens = sample(model, n_sequences, length, seed=0 if split == "train" else 1).numpy().astype(token_type(model))
    return Sequences(tokens, identity_of_sequences(model.identity, SAMPLE, split), True, n_sequences)


@torch.no_grad()
def sample(
    model: LanguageModel, n: int, length: int, *, seed: int = 0, temperature: float = 1.0, batch_size: int = 256
) -> Tensor:
    """Draw sequences from a model, int64 `(n, length)`, each from the beginning-of-sequence token on.

    Raises
    ------
    LanguageModelError
        If the model has no such token.
    ConfigError
        If the length does not fit into its context.
    """
    if model.bos is None:
        raise LanguageModelError(f"model {model.id!r} has no beginning-of-sequence token to sample from")
    require(1 <= length <= model.context, "length", length, f"must be from 1 to {model.context}")
    require(temperature > 0, "temperature", temperature, "must be positive")
    parts = []
    for start in range(0, n, batch_size):
        draws = generator(seed, _SAMPLE, start)
        tokens = torch.full((min(batch_size, n - start), 1), model.bos, device=model.device)
        past = None
        while tokens.shape[1] < length:
            new = tokens if past is None else tokens[:, -1:]
            logits, past = model.bridge(new, return_type="logits_and_cache", past_key_values=past, use_cache=True)
            odds = (logits[:, -1].float() / temperature).softmax(-1).cpu()
            tokens = torch.cat([tokens, torch.multinomial(odds, 1, generator=draws).to(tokens.device)], dim=1)
        parts.append(tokens.cpu())
    return torch.cat(parts)


def sizes_of(profile: str, model: str) -> str:
    """Return which sizes a profile means on a model: the profile's, or for `published` on another model than the embedded one the paper's."""
    return profile if profile != "published" or model == EMBEDDED else "paper"


def default_text(model: str) -> str:
    """Return the text that a model understands: what it was trained on, or the like of it (R15)."""
    known = {EMBEDDED: DOCUMENTATION, SMOLLM2: ARTICLES, "stories260K": SAMPLE}
    return known.get(declared_id(model), OPENWEBTEXT)


def text_name(text: str) -> str:
    """Return the name of a text: that of the file or folder, no path of this machine."""
    return Path(text).name if Path(text).is_absolute() else text


class Shape(NamedTuple):
    """What decides the sizes of SAEs on a model."""

    width: int
    """d_model"""
    layers: int
    context: int


_NAMES = {"width": ("hidden_size", "n_embd"), "layers": ("num_hidden_layers", "n_layer"),
          "context": ("max_position_embeddings", "n_positions")}  # fmt: skip


def model_shape(model: str) -> Shape:
    """Return a model's shape, from its configuration alone where it lies in a folder.

    Raises
    ------
    LanguageModelError
        If there is no such folder, or it does not say.
    """
    if absent_model(model):
        return Shape(576, 30, 8192)  # of SmolLM2
    folder = find(model)
    if folder is None:
        if model == "gpt2":
            return Shape(GPT2_WIDTH, 12, 1024)
        loaded = LanguageModel.load(model)
        return Shape(loaded.d_model, loaded.n_layers, loaded.context)
    check_folder(folder)
    settings, found = json.loads((folder / "config.json").read_text(encoding="utf-8")), {}
    settings = {**settings, **settings.get("text_config", {})}  # of a model that takes images too
    for field, names in _NAMES.items():
        value = next((settings[name] for name in names if name in settings), None)
        if value is None:
            raise LanguageModelError(f"model {model!r}: config.json gives neither {' nor '.join(names)}")
        found[field] = int(value)
    return Shape(**found)


def weights_hash(model: str) -> str | None:
    """Return the SHA-256 of a model's weights as they lie in its folder; None for one on the hub."""
    folder = find(model)
    if folder is None:
        return None
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(bytes.fromhex(of_file(path)))
    return digest.hexdigest()
