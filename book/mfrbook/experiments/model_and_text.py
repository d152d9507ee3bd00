"""A language model and its text, opened once for all runs of a process."""

import functools
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mfrbook.experiments.archived import absent_model, identity_of_model
from mfrlib.data.identity import Identity, of_file
from mfrlib.data.text import documents as texts
from mfrlib.data.text.sequences import Sequences
from mfrlib.language_models.language_model import LanguageModel, Weights
from mfrlib.language_models.pretrained.gguf import SMOLLM2
from mfrlib.language_models.pretrained.names import (
    EMBEDDED,
    LanguageModelError,
    check_folder,
    declared_id,
    find,
)
from mfrlib.language_models.tokens import SAMPLE, open_sequences

OPENWEBTEXT = "Skylion007/openwebtext"
GPT2_WIDTH = 768


class Opened(NamedTuple):
    """A language model and both sides of its text."""

    model: LanguageModel
    train: Sequences
    held_out: Sequences


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
    train, held_out = _sequences(model, its, text, texts.identity_of(text), n_train, n_held_out, length, bos, device)
    return Opened(_model(model, its, weights, 0 if weights == "trained" else seed, device), train, held_out)


# The identities tell apart what a name stood for before from what it stands for now.
@functools.lru_cache(maxsize=2)
def _model(name: str, its: Identity, weights: Weights, seed: int, device: str) -> LanguageModel:
    return LanguageModel.load(name, weights=weights, seed=seed, device=device)


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
    cut = partial(open_sequences, _model(name, its, "trained", 0, device), text, length=length, bos=bos)
    return cut(split="train", n_sequences=n_train), cut(split="held-out", n_sequences=n_held_out)


def default_text(model: str) -> str:
    """Return the text that a model understands: what it was trained on, or the like of it (R15)."""
    known = {EMBEDDED: texts.EMBEDDED, SMOLLM2: texts.ARTICLES, "stories260K": SAMPLE}
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


def model_width(model: str) -> int:
    """Return a model's d_model; see `model_shape`."""
    return model_shape(model).width


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
