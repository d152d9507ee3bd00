"""Language models by name: their identity, their tokens, and what they say."""

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from mfrlib.data.identity import OWN, Identity
from mfrlib.environment import require_device
from mfrlib.language_models.hooked_model import HookedModel
from mfrlib.language_models.pretrained.loading import load_pretrained
from mfrlib.language_models.pretrained.names import EMBEDDED, LanguageModelError, identity_of

_NO_ARITHMETIC = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")


class LanguageModel(HookedModel):
    """A causal language model, with its tokenizer.

    Parameters
    ----------
    model
        A causal language model of transformers; see `HookedModel`.
    tokenizer
        Its tokenizer, or None.
    id : str
        Declared name.
    identity : Identity, optional
        What the model is called in the identity of data; by default its bytes.

    Attributes
    ----------
    bos : int or None
        The beginning-of-sequence token.
    """

    def __init__(self, model: Any, tokenizer: Any, id: str, identity: Identity | None = None) -> None:
        super().__init__(model, id)
        self.tokenizer = tokenizer
        self._known = None if identity is None else (identity, self.hash)
        # Configurations keep the number of another vocabulary, which no token of this one has.
        places = tokenizer, model.config, model.config.get_text_config()
        choices = (getattr(one, "bos_token_id", None) for one in places)
        known = (one for one in choices if isinstance(one, int) and 0 <= one < self.vocabulary)
        self.bos: int | None = next(known, None)

    @classmethod
    def load(cls, name: str | os.PathLike[str] = EMBEDDED, *, device: str = "cpu") -> Self:
        """Load a model.

        Parameters
        ----------
        name : str or path-like
            `tiny-lm` (in the package; the default), `smollm2` (once `mfr model smollm2` has fetched it), a folder in the format of
            transformers, a GGUF file, the name of one below `models/` of `MFR_DATA` (`stories260K`), or a name on the
            Hugging Face hub (`gpt2`).
        device : str

        Raises
        ------
        LanguageModelError
            If there is no such model, it is none that predicts the next token from those before, or it cannot be used; the message says what to do.
        """
        if not isinstance(name, str | os.PathLike):
            raise LanguageModelError(f"name: must be a name or a path, such as {EMBEDDED!r}, given {name!r:.100}")
        require_device(device)
        name = os.fspath(name)
        found = load_pretrained(name)
        return cls(found.model.to(device), found.tokenizer, found.id, identity_of(name))

    @property
    def identity(self) -> Identity:
        """What the model is called in the identity of data: the name that it came with, or its bytes, also once they changed."""
        name, at_first = self._known or (None, "")
        now = self.hash
        return name if name and now == at_first else Identity(OWN, now)

    @property  # not kept: whoever changes the weights has another model
    def hash(self) -> str:
        """SHA-256 of the weights, and of the configuration that says what is done with them."""
        model: Any = self.bridge.original_model
        settings = model.config.to_diff_dict()
        settings = {name: value for name, value in settings.items() if name not in _NO_ARITHMETIC}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        for name, value in sorted(model.named_parameters()):
            name = name.replace("._original_component", "")  # the bridge's own wrapping
            plain = value.detach().cpu().contiguous().view(torch.uint8) if value.ndim else value.detach().cpu()
            digest.update(name.encode() + b"\0" + plain.numpy().tobytes())  # NumPy has no bfloat16: bytes instead
        return digest.hexdigest()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts, without special tokens.

        Raises
        ------
        LanguageModelError
            If the model has no tokenizer, `texts` is no sequence of strings, or a text holds a token that was added to it and that the model does not have.
        """
        tokenizer = self._needs_tokenizer()
        try:
            if isinstance(texts, str):
                raise TypeError("one string")
            texts = list(texts)
            found = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        except (TypeError, ValueError) as error:  # what a tokenizer says of other types, and of half a surrogate pair
            allowed = "must be a list of strings, without halves of surrogate pairs"
            raise LanguageModelError(f"texts: {allowed}, given {texts!r:.200}") from error
        for row, ids in enumerate(found):
            if max(ids, default=0) >= self.vocabulary:  # a text about tokens: what it spells is then text
                plain = tokenizer([texts[row]], add_special_tokens=False, verbose=False, split_special_tokens=True)
                found[row] = plain["input_ids"][0]
                if beyond := [one for one in found[row] if one >= self.vocabulary]:
                    token = tokenizer.convert_ids_to_tokens(beyond[0])
                    raise LanguageModelError(
                        f"text with the token {token!r}, {beyond[0]}, which {self.id!r} does not have: its vocabulary is {self.vocabulary}"
                    )
        return found

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """Return the text of token ids `(position,)`; LanguageModelError without a tokenizer, or for ids that it does not have."""
        tokenizer = self._needs_tokenizer()
        n = max(self.vocabulary, len(tokenizer))
        if beyond := [one for one in torch.as_tensor(ids).flatten().tolist() if not 0 <= one < n]:
            raise LanguageModelError(f"ids: must be from 0 to {n - 1}, given {beyond[0]}")
        return tokenizer.decode(ids, clean_up_tokenization_spaces=False)

    def token_texts(self, ids: Sequence[int] | Tensor) -> list[str]:
        """Return the text of each token of `(position,)`; a token that is part of a character gives the replacement character."""
        return [self.decode([one]) for one in torch.as_tensor(ids).tolist()]

    def _needs_tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise LanguageModelError(f"model {self.id!r} has no tokenizer; its folder needs tokenizer.json")
        return self.tokenizer


def next_token_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    r"""Return the cross-entropy of each sequence, `(sequence,)`, in nats per token.

    .. math:: -\frac{1}{T-1} \sum_{t=1}^{T-1} \log p(x_{t+1} \mid x_1, \dots, x_t)

    Parameters
    ----------
    logits : Tensor (sequence, position, vocabulary)
    tokens : Tensor (sequence, position)
    """
    predicted, targets = logits[:, :-1], tokens[:, 1:]
    losses = torch.nn.functional.cross_entropy(predicted.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(targets.shape).mean(1)
