"""A language model whose activations can be read and replaced, on transformers and TransformerLens."""

import difflib
import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from types import MethodType
from typing import Any, NamedTuple, Self, get_args

import torch
from torch import Tensor

from mfrlib.config import require
from mfrlib.data.identity import OWN, Identity
from mfrlib.environment import needed
from mfrlib.language_models.pretrained.loading import Weights, load_pretrained
from mfrlib.language_models.pretrained.names import EMBEDDED, LanguageModelError, identity_of
from mfrlib.language_models.widened import Widened, in_stream, is_shared
from mfrlib.randomness import generator

__all__ = ["Forward", "LanguageModel", "Replacement", "next_token_loss"]

Replacement = Tensor | Callable[[Tensor], Tensor]
"""What takes the place of an activation, a tensor of its shape or a function of it."""
_Hooks = list[tuple[str | Callable[..., Any], Callable[..., Any]]]
_SAMPLE = 31  # stream of a seed


class Forward(NamedTuple):
    """One forward pass."""

    logits: Tensor
    """(sequence, position, vocabulary)"""
    activations: dict[str, Tensor]
    """By hook, as the model computed them, before a replacement at the same hook."""


class LanguageModel:
    """A causal language model, frozen: in evaluation mode, in float32, without gradients for its weights.

    Hooks have TransformerLens's names, such as `blocks.0.hook_mlp_out`, `blocks.2.hook_resid_pre`.

    Parameters
    ----------
    model
        A causal language model of transformers. It is taken over: its modules are replaced by hooked ones.
    tokenizer
        Its tokenizer, or None.
    id : str
        Declared name.

    Attributes
    ----------
    id : str
    d_model, n_layers, context, vocabulary : int
        Width of the residual stream, blocks, longest sequence, number of tokens.
    bos : int or None
        The beginning-of-sequence token.
    """

    def __init__(self, model: Any, tokenizer: Any, id: str) -> None:
        with needed("a language model"):
            from transformer_lens.model_bridge.sources import build_bridge_from_module

        if any(one.is_floating_point() and one.dtype.itemsize < 4 for one in model.parameters()):
            model = model.float()
        self.id, self.tokenizer = id, tokenizer
        self._identity: Identity | None = None
        try:
            with torch.random.fork_rng(devices=[]):  # the library draws weights before it takes those over
                self.bridge = build_bridge_from_module(model, type(model).__name__, hf_config=model.config)
        except Exception as error:  # each adapter raises its own
            reason = f"{type(error).__name__}: {error}"
            raise LanguageModelError(
                f"model {id!r}: TransformerLens cannot read {type(model).__name__} ({reason})"
            ) from error
        self.bridge.eval().requires_grad_(False)
        try:
            _attend_natively(self.bridge)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise LanguageModelError(
                f"model {id!r}: TransformerLens cannot run {type(model).__name__} ({reason})"
            ) from error
        settings = self.bridge.cfg
        self.d_model, self.n_layers, self.context = settings.d_model, settings.n_layers, settings.n_ctx
        text = model.config.get_text_config()  # of a model that takes images too, the part that reads text
        self.vocabulary: int = text.vocab_size
        # Configurations keep the number of another vocabulary, which no token of this one has.
        choices = [getattr(one, "bos_token_id", None) for one in (tokenizer, model.config, text)]
        self.bos: int | None = next(
            (one for one in choices if isinstance(one, int) and 0 <= one < self.vocabulary), None
        )
        self._shared: dict[int, bool] = {}
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._widths: dict[str, int] = {}

    @classmethod
    def load(cls, name: str = EMBEDDED, *, weights: Weights = "trained", seed: int = 0, device: str = "cpu") -> Self:
        """Load a model.

        Parameters
        ----------
        name : str
            `tiny-lm` (in the package), a folder, the name of one below `models/` of `MFR_DATA` (`stories260K`), or a
            name on the Hugging Face hub (`gpt2`).
        weights : {"trained", "untrained-block", "untrained"}
            `untrained-block`: what the released code of MFR reads activations from (R14): blocks with random weights
            from the model's configuration, no position embedding, and only the token embedding pretrained. Rotary
            positions have no weights and stay. `untrained`: all weights random.
        seed : int
            Of the random weights.
        device : str

        Raises
        ------
        LanguageModelError
            If there is no such model, or it cannot be used; the message says what to do.
        """
        require(weights in get_args(Weights), "weights", weights, f"must be one of {', '.join(get_args(Weights))}")
        found, identity = load_pretrained(name), identity_of(name)
        if weights == "trained":
            loaded = cls(found.model.to(device), found.tokenizer, found.id)
        else:
            fresh = _untrained(found.model, seed, keep_embedding=weights == "untrained-block")
            loaded = cls(fresh.to(device), found.tokenizer, f"{found.id}:{weights}")
            identity = identity._replace(name=f"{identity.name}:{weights}:{seed}")
        loaded._identity = identity
        return loaded

    @property
    def identity(self) -> Identity:
        """What the model is called in the identity of data: a known name, or its bytes."""
        return self._identity or Identity(OWN, self.hash)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the weights."""
        digest = hashlib.sha256()
        for name, value in sorted(self.bridge.original_model.named_parameters()):
            name = name.replace("._original_component", "")  # the bridge's own wrapping
            plain = value.detach().cpu().contiguous().view(torch.uint8) if value.ndim else value.detach().cpu()
            digest.update(
                name.encode() + b"\0" + plain.numpy().tobytes()
            )  # NumPy has no bfloat16, and bytes have no type
        return digest.hexdigest()

    @property
    def hooks(self) -> tuple[str, ...]:
        """Names of all places whose activations TransformerLens knows; `width` tells whether an SAE fits there."""
        return tuple(self.bridge.hook_dict)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.bridge.parameters()).device

    def width(self, hook: str) -> int:
        """Return the width of the activations at a hook: the d_in of an SAE there.

        Raises
        ------
        LanguageModelError
            If there is no such hook or layer (the message lists the near ones), the model does not compute it, or its
            activations are not vectors, one for each position.
        """
        if hook not in self._widths:
            if hook not in self.bridge.hook_dict:
                raise LanguageModelError(self._unknown(hook))
            seen: list[Any] = []
            try:
                tokens = torch.zeros(1, 2, dtype=torch.int64, device=self.device)
                self.bridge.run_with_hooks(tokens, fwd_hooks=[(hook, _reader(seen))], use_cache=False)
            except ValueError as error:  # hooks that are off until a setter of TransformerLens is called
                raise LanguageModelError(f"hook {hook!r} of model {self.id!r}: {error}") from error
            if not seen:
                raise LanguageModelError(f"hook {hook!r}: model {self.id!r} has no such activation")
            shape = tuple(seen[0].shape) if isinstance(seen[0], Tensor) else ()
            if len(shape) != 3 or shape[:2] != (1, 2):
                raise LanguageModelError(f"hook {hook!r}: needs one vector for each position, has shape {shape}")
            self._widths[hook] = shape[2]
        return self._widths[hook]

    def require_width(self, hook: str, d_in: int) -> None:
        """Refuse an SAE whose d_in is not the width at a hook.

        Raises
        ------
        LanguageModelError
        """
        if self.width(hook) != d_in:
            raise LanguageModelError(f"d_in of the SAE is {d_in}, hook {hook!r} of {self.id!r} has {self.width(hook)}")

    def run(
        self, tokens: Tensor, *, read: Iterable[str] = (), replace: Mapping[str, Replacement] | None = None
    ) -> Forward:
        """Run the model, reading activations and replacing others, in one pass.

        Gradients flow from the logits and from what is read through the blocks after a replacement into it, and never
        into the model's weights.

        Parameters
        ----------
        tokens : Tensor (sequence, position), int64
        read : iterable of str
            Hooks whose activations are returned. Read at a hook that is replaced, they are the ones before.
        replace : mapping
            For a hook, a tensor of the activation's shape, or a function that gives one of it. The first dimension may be
            a multiple of what it was: what follows is then computed for each. At `hook_resid_pre` and `hook_resid_post`
            what comes before is computed once, where the model's own attention masks allow that.

        Raises
        ------
        LanguageModelError
            If a hook or a token does not exist, or a replacement has another width.
        """
        self.check_tokens(tokens)
        try:
            return self._run(tokens, dict.fromkeys(read), replace or {})
        except Widened as found:
            return self._run_for_each(tokens, dict.fromkeys(read), replace or {}, found)

    def _run(self, tokens: Tensor, read: Iterable[str], replace: Mapping[str, Replacement]) -> Forward:
        activations: dict[str, Tensor] = {}
        hooks: _Hooks = [(self._checked(hook), _keeper(activations, hook)) for hook in read]
        for hook, value in replace.items():
            may_widen = not isinstance(value, Tensor) or len(value) > len(tokens)
            shares = may_widen and self._shares(self._checked(hook), tokens.shape[1])  # no hook may run the model
            hooks.append((self._checked(hook), _replacer(hook, value, shares)))
        return Forward(self.bridge.run_with_hooks(tokens, fwd_hooks=hooks, use_cache=False), activations)

    def _run_for_each(
        self, tokens: Tensor, read: Iterable[str], replace: Mapping[str, Replacement], found: Widened
    ) -> Forward:
        """Run on the tokens as often as a replacement asks for; what was read before it comes once, as in a shared pass."""
        times = len(found.new) // len(tokens)
        again = {
            hook: value.repeat(times, *[1] * (value.ndim - 1))
            if isinstance(value, Tensor) and len(value) == len(tokens) else value
            for hook, value in replace.items()
        }  # fmt: skip
        asked = list(read)
        done = self._run(tokens.repeat(times, 1), dict.fromkeys([*asked, found.hook]), again | {found.hook: found.new})
        order = list(done.activations)  # in which the model computes them
        before = order[: order.index(found.hook) + 1]
        once = {hook: value[: len(tokens)] if hook in before else value for hook, value in done.activations.items()}
        return Forward(done.logits, {hook: once[hook] for hook in asked if hook in once})

    def _shares(self, hook: str, length: int) -> bool:
        """Tell whether, from a hook on, sequences of a length may be more than there were tokens of."""
        if in_stream(hook) and length not in self._shared:
            self._shared[length] = is_shared(self.bridge, self.n_layers, length, self.vocabulary)
        return in_stream(hook) and self._shared[length]

    def logits(self, tokens: Tensor) -> Tensor:
        """Return the logits `(sequence, position, vocabulary)`."""
        return self.run(tokens).logits

    def logits_with(self, tokens: Tensor, replace: Mapping[str, Replacement]) -> Tensor:
        """Return the logits where activations are replaced; see `run`."""
        return self.run(tokens, replace=replace).logits

    @torch.no_grad()
    def activations(self, tokens: Tensor, hooks: Sequence[str]) -> dict[str, Tensor]:
        """Return the activations `(sequence, position, width)` at hooks, computing no block after the last of them.

        At `unembed.hook_out`, those of the last position only, where the model offers that.

        Raises
        ------
        LanguageModelError
            If a hook or a token does not exist.
        """
        self.check_tokens(tokens)
        found: dict[str, Tensor] = {}
        readers: _Hooks = [(_earliest(self._checked(hook)), _keeper(found, hook)) for hook in dict.fromkeys(hooks)]
        last = max((_block(_earliest(hook), self.n_layers) for hook in hooks), default=0)
        stop = last + 1 if last < self.n_layers - 1 else None
        fewer: dict[str, Any] = {"logits_to_keep": 1} if self._keeps_logits else {}
        self.bridge.run_with_hooks(tokens, fwd_hooks=readers, stop_at_layer=stop, use_cache=False, **fewer)
        return found

    def check_tokens(self, tokens: Tensor) -> None:
        """Refuse tokens that are not this model's.

        Raises
        ------
        LanguageModelError
        """
        if not isinstance(tokens, Tensor):
            raise LanguageModelError(
                f"tokens: must be a tensor int64 (sequence, position), given {type(tokens).__name__}; encode makes ids of texts"
            )
        if tokens.ndim != 2 or tokens.dtype != torch.int64 or tokens.numel() == 0:
            raise LanguageModelError(
                f"tokens: must be int64 (sequence, position), given {tokens.dtype} {tuple(tokens.shape)}"
            )
        if tokens.shape[1] > self.context:
            raise LanguageModelError(
                f"tokens: {tokens.shape[1]} positions, {self.id!r} has a context of {self.context}"
            )
        low, high = torch.stack(tokens.aminmax()).tolist()
        if low < 0 or high >= self.vocabulary:
            given = f"ids from {low} to {high}"
            raise LanguageModelError(
                f"tokens of another vocabulary: {given}, {self.id!r} has {self.vocabulary}; use its own tokenizer"
            )

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts, without special tokens.

        Raises
        ------
        LanguageModelError
            If the model has no tokenizer, or a text holds a token that was added to it and that the model does not have.
        """
        tokenizer = self._needs_tokenizer()
        found = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        for row, ids in enumerate(found):
            if max(ids, default=0) >= self.vocabulary:  # a text about tokens: what it spells is then text
                plain = tokenizer([texts[row]], add_special_tokens=False, verbose=False, split_special_tokens=True)
                found[row] = plain["input_ids"][0]
                beyond = [one for one in found[row] if one >= self.vocabulary]
                if beyond:
                    token = tokenizer.convert_ids_to_tokens(beyond[0])
                    raise LanguageModelError(
                        f"text with the token {token!r}, {beyond[0]}, which {self.id!r} does not have: its vocabulary is {self.vocabulary}"
                    )
        return found

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """Return the text of token ids."""
        return self._needs_tokenizer().decode(ids, clean_up_tokenization_spaces=False)

    def token_texts(self, ids: Sequence[int] | Tensor) -> list[str]:
        """Return the text of each token; a token that is part of a character gives the replacement character."""
        return [self.decode([one]) for one in torch.as_tensor(ids).tolist()]

    @torch.no_grad()
    def sample(self, n: int, length: int, *, seed: int = 0, temperature: float = 1.0, batch_size: int = 256) -> Tensor:
        """Draw sequences from the model, int64 `(n, length)`, each from the beginning-of-sequence token on.

        Raises
        ------
        LanguageModelError
            If the model has no such token.
        ConfigError
            If the length does not fit into its context.
        """
        if self.bos is None:
            raise LanguageModelError(f"model {self.id!r} has no beginning-of-sequence token to sample from")
        require(1 <= length <= self.context, "length", length, f"must be from 1 to {self.context}")
        require(temperature > 0, "temperature", temperature, "must be positive")
        parts = []
        for start in range(0, n, batch_size):
            draws = generator(seed, _SAMPLE, start)
            tokens = torch.full((min(batch_size, n - start), 1), self.bos, device=self.device)
            past = None
            while tokens.shape[1] < length:
                new = tokens if past is None else tokens[:, -1:]
                logits, past = self.bridge(new, return_type="logits_and_cache", past_key_values=past, use_cache=True)
                odds = (logits[:, -1].float() / temperature).softmax(-1).cpu()
                tokens = torch.cat([tokens, torch.multinomial(odds, 1, generator=draws).to(tokens.device)], dim=1)
            parts.append(tokens.cpu())
        return torch.cat(parts)

    def _checked(self, hook: str) -> str:
        self.width(hook)
        return hook

    def _needs_tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise LanguageModelError(f"model {self.id!r} has no tokenizer; its folder needs tokenizer.json")
        return self.tokenizer

    def _unknown(self, hook: str) -> str:
        layer = _block(hook, -1)
        if layer >= self.n_layers:
            return f"hook {hook!r}: no layer {layer}, {self.id!r} has {self.n_layers}: 0 to {self.n_layers - 1}"
        near = difflib.get_close_matches(hook, self.bridge.hook_dict, n=5, cutoff=0.5)
        listed = ", ".join(near) if near else "names such as blocks.0.hook_mlp_out, blocks.0.hook_resid_pre"
        return f"hook {hook!r}: model {self.id!r} has none of this name; near: {listed}"


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


def _untrained(model: Any, seed: int, keep_embedding: bool) -> Any:
    """Return a model of the same configuration with random weights; with the same token embedding, and no positions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # transformers draws from the global generator
        fresh = type(model)(model.config).float().eval()
    if keep_embedding:
        with torch.no_grad():
            fresh.get_input_embeddings().weight.copy_(model.get_input_embeddings().weight)
            positions = getattr(fresh.base_model, "wpe", None)
            if positions is not None:
                positions.weight.zero_()
    return fresh


@torch.no_grad()
def _attend_natively(bridge: Any) -> None:
    """Let attention be computed by transformers, in up to half the time, wherever that gives the same logits.

    TransformerLens computes it step by step, so that patterns can be read. An SAE reads vectors: at the input and output of
    attention, hooks stay.
    """
    from transformer_lens.model_bridge import AttentionBridge

    layers = [
        block.attn
        for block in getattr(bridge, "blocks", ())
        if isinstance(getattr(block, "attn", None), AttentionBridge)
    ]
    tokens = torch.arange(8, device=next(bridge.parameters()).device)[None]
    expected = bridge(tokens, use_cache=False)
    for layer in layers:
        layer.__dict__["forward"] = MethodType(AttentionBridge.forward, layer)
    try:
        same = torch.allclose(bridge(tokens, use_cache=False), expected, rtol=1e-3, atol=1e-3)
    except Exception:  # whatever an architecture needs that the plain call does not give
        same = False
    if not same:
        for layer in layers:
            del layer.__dict__["forward"]


def _block(hook: str, otherwise: int) -> int:
    """Return the number of a hook's block: that of the embeddings is 0, what follows the blocks has `otherwise`."""
    found = re.match(r"blocks\.(\d+)\.", hook)
    if found:
        return int(found[1])
    return 0 if hook.startswith(("hook_embed", "hook_pos_embed", "embed.", "pos_embed.")) else otherwise


def _earliest(hook: str) -> str:
    """Return the hook where an activation is first computed: the residual stream before a block is that after the last."""
    found = re.fullmatch(r"blocks\.([1-9]\d*)\.hook_resid_pre", hook)
    return f"blocks.{int(found[1]) - 1}.hook_resid_post" if found else hook


def _reader(seen: list[Any]) -> Callable[..., None]:
    def read(value: Any, hook: Any) -> None:
        seen.append(value)

    return read


def _keeper(kept: dict[str, Tensor], name: str) -> Callable[..., None]:
    def keep(value: Tensor, hook: Any) -> None:
        kept[name] = value

    return keep


def _replacer(name: str, replacement: Replacement, shares: bool) -> Callable[..., Tensor]:
    def replace(value: Tensor, hook: Any) -> Tensor:
        new = replacement if isinstance(replacement, Tensor) else replacement(value)
        if new.shape[1:] != value.shape[1:] or len(new) % len(value) or not len(new):
            raise LanguageModelError(
                f"replacement at {name!r} has shape {tuple(new.shape)}, the activation {tuple(value.shape)}"
            )
        if len(new) > len(value) and not shares:
            raise Widened(name, new)
        return new

    return replace
