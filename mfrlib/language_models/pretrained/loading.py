"""Pretrained language models opened by transformers: safetensors only, checked, in float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mfrlib.environment import needed
from mfrlib.language_models.pretrained.names import LanguageModelError, check_folder, declared_id, find, why


class Pretrained(NamedTuple):
    """A model of transformers, in float32 and in evaluation mode, with its tokenizer."""

    model: Any
    tokenizer: Any
    """None where the folder has none."""
    id: str
    """Declared name."""


def load_pretrained(name: str) -> Pretrained:
    """Load a causal language model and its tokenizer by a name as of `mfrlib.LanguageModel.load`.

    Raises LanguageModelError if there is no such model, it has no safetensors weights (pickled ones are not opened), needs code
    of its own, lacks weights or has some that are not finite, or its tokenizer is that of another model.
    """
    folder = find(name)
    if folder is not None:
        check_folder(folder)
    with needed("a language model"):
        from transformers import AutoModelForCausalLM

    source, local = (name, False) if folder is None else (str(folder), True)
    try:
        with _quiet(), torch.random.fork_rng(devices=[]):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, local_files_only=local,
                output_loading_info=True,
            )  # fmt: skip
            model, report = loaded
            tokenizer = _tokenizer(source, local)
    except Exception as error:  # transformers raises OSError, ValueError, RuntimeError and those of its libraries
        raise LanguageModelError(why(name, folder, error)) from error
    if missing := sorted(report["missing_keys"]):  # transformers draws them at random
        raise LanguageModelError(
            f"model {name!r}: {len(missing)} weights that its configuration asks for are not there: {', '.join(missing[:3])}. "
            "Save the whole causal language model with save_pretrained(folder)"
        )
    broken = [key for key, value in model.named_parameters() if not torch.isfinite(value).all()]
    if broken:
        raise LanguageModelError(f"model {name!r}: weights are not finite: {', '.join(broken[:3])}")
    largest, vocabulary = _largest(tokenizer), model.config.get_text_config().vocab_size
    if largest >= vocabulary:
        raise LanguageModelError(
            f"model {name!r}: its tokenizer is that of another vocabulary: ids up to {largest}, the model has {vocabulary}"
        )
    return Pretrained(model.eval(), tokenizer, name if folder is None else declared_id(name))


def _largest(tokenizer: Any) -> int:
    """Return the largest id that a tokenizer gives to text; tokens added to it later are in no model that was not taught them."""
    if tokenizer is None:
        return -1
    added = set(tokenizer.get_added_vocab())
    return max((number for token, number in tokenizer.get_vocab().items() if token not in added), default=-1)


def _tokenizer(source: str, local: bool) -> Any:
    from transformers import AutoTokenizer

    # Where the files are missing, transformers gives a tokenizer without any vocabulary.
    files = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model")
    if local and not any((Path(source) / file).is_file() for file in files):
        return None
    return AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=local)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the progress bar of transformers, and nothing else."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
