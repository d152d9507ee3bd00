"""A causal language model whose activations can be read and replaced, on transformers and TransformerLens."""

import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mfrlib.environment import needed
from mfrlib.language_models import hooks as at
from mfrlib.language_models.hooks import Hooks, Replacement, Widened
from mfrlib.language_models.pretrained.names import LanguageModelError


class Forward(NamedTuple):
    """One forward pass."""

    logits: Tensor
    """(sequence, position, vocabulary)"""
    activations: dict[str, Tensor]
    """By hook, as the model computed them, before a replacement at the same hook."""


class HookedModel:
    """A frozen causal language model: in evaluation mode, in float32, without gradients for its weights.

    Hooks have TransformerLens's names, such as `blocks.0.hook_mlp_out`, `blocks.2.hook_resid_pre`.

    Parameters
    ----------
    model
        A causal language model of transformers. It is taken over: its modules are replaced by hooked ones.
    id : str
        Declared name.

    Raises
    ------
    LanguageModelError
        If TransformerLens cannot read or run the model, or it looks at later tokens.

    Attributes
    ----------
    id : str
    d_model, n_layers, context, vocabulary : int
        Width of the residual stream, blocks, longest sequence, number of tokens.
    """

    def __init__(self, model: Any, id: str) -> None:
        with needed("a language model"):
            from transformer_lens.model_bridge.sources import build_bridge_from_module

        if not isinstance(model, torch.nn.Module):
            wanted = "must be a causal language model of transformers; LanguageModel.load(name) opens one"
            raise LanguageModelError(f"model: {wanted}, given {model!r:.100}")
        if any(one.is_floating_point() and one.dtype.itemsize < 4 for one in model.parameters()):
            model = model.float()
        self.id = id
        try:
            self.vocabulary: int = model.config.get_text_config().vocab_size  # without the images of some models
            with torch.random.fork_rng(devices=[]):  # the library draws weights before it takes those over
                self.bridge = build_bridge_from_module(model, type(model).__name__, hf_config=model.config)
            self.bridge.eval().requires_grad_(False)
            settings = self.bridge.cfg
            tokens = torch.arange(8, device=self.device)[None, : settings.n_ctx] % self.vocabulary  # toys have less
            at.attend_natively(self.bridge, tokens)
            causal = at.is_causal(self.bridge, tokens)
        except Exception as error:  # each adapter raises its own
            reason = f"{type(model).__name__} ({type(error).__name__}: {error})"
            raise LanguageModelError(f"model {id!r}: TransformerLens cannot read or run {reason}") from error
        if not causal:
            which = f"model {id!r}: {type(model).__name__} looks at later tokens"
            raise LanguageModelError(f"{which}, as BERT does, and does not predict them; give a causal language model")
        self.d_model, self.n_layers, self.context = settings.d_model, settings.n_layers, settings.n_ctx
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._shared: dict[int, bool] = {}
        self._widths: dict[str, int] = {}

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

        Raises LanguageModelError if there is no such hook or layer (the message lists the near ones), the model does
        not compute it, or its activations are not vectors, one for each position.
        """
        if hook not in self._widths:
            if hook not in self.bridge.hook_dict:
                raise LanguageModelError(self._unknown(str(hook)))
            seen: dict[str, Any] = {}
            try:
                tokens = torch.zeros(1, 2, dtype=torch.int64, device=self.device)
                self.bridge.run_with_hooks(tokens, fwd_hooks=[(hook, at.keeper(seen, hook))], use_cache=False)
            except ValueError as error:  # hooks that are off until a setter of TransformerLens is called
                raise LanguageModelError(f"hook {hook!r} of model {self.id!r}: {error}") from error
            if not seen:
                raise LanguageModelError(f"hook {hook!r}: model {self.id!r} has no such activation")
            shape = tuple(seen[hook].shape) if isinstance(seen[hook], Tensor) else ()
            if len(shape) != 3 or shape[:2] != (1, 2):
                raise LanguageModelError(f"hook {hook!r}: needs one vector for each position, has shape {shape}")
            self._widths[hook] = shape[2]
        return self._widths[hook]

    def _existing(self, hooks: Iterable[str]) -> list[str]:
        """Return each of some hooks once; LanguageModelError if there is no such hook, or one name was given in place of a list."""
        if isinstance(hooks, str):
            raise LanguageModelError(f"hooks: must be a list of names, given {hooks!r}")
        found = list(dict.fromkeys(hooks))
        for hook in found:
            self.width(hook)
        return found

    def require_width(self, hook: str, d_in: int) -> None:
        """Refuse an SAE whose d_in is not the width at a hook (LanguageModelError)."""
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
        read, replace = self._existing(read), replace or {}
        if not isinstance(replace, Mapping):
            raise LanguageModelError(f"replace: must be a dict from hooks to replacements, given {replace!r}")
        self._existing(replace)
        try:
            return self._run(tokens, read, replace)
        except Widened as found:
            return self._run_for_each(tokens, read, replace, found)

    def _run(self, tokens: Tensor, read: Iterable[str], replace: Mapping[str, Replacement]) -> Forward:
        activations: dict[str, Tensor] = {}
        hooks: Hooks = [(hook, at.keeper(activations, hook)) for hook in read]
        for hook, value in replace.items():
            wider = isinstance(value, Tensor) and len(value) > len(tokens)
            shares = (wider or callable(value)) and self._shares(hook, tokens.shape[1])  # a hook cannot run the model
            if wider and not shares and len(value) % len(tokens) == 0:  # type: ignore[arg-type]
                raise Widened(hook, value)  # type: ignore[arg-type]
            hooks.append((hook, at.replacer(hook, value, shares)))
        return Forward(self.bridge.run_with_hooks(tokens, fwd_hooks=hooks, use_cache=False), activations)

    def _run_for_each(
        self, tokens: Tensor, read: list[str], replace: Mapping[str, Replacement], found: Widened
    ) -> Forward:
        """Run on the tokens as often as a replacement asks for; what was read before it comes once, as in a shared pass."""
        times = len(found.new) // len(tokens)
        again = {
            hook: value.repeat(times, *[1] * (value.ndim - 1))
            if isinstance(value, Tensor) and len(value) == len(tokens) else value
            for hook, value in replace.items()
        }  # fmt: skip
        done = self._run(tokens.repeat(times, 1), [*read, found.hook], again | {found.hook: found.new})
        order = list(done.activations)  # in which the model computes them
        before = order[: order.index(found.hook) + 1]
        once = {hook: value[: len(tokens)] if hook in before else value for hook, value in done.activations.items()}
        return Forward(done.logits, {hook: once[hook] for hook in read if hook in once})

    def _shares(self, hook: str, length: int) -> bool:
        """Tell whether, from a hook on, sequences of a length may be more than there were tokens of."""
        if at.in_stream(hook) and length not in self._shared:
            self._shared[length] = at.is_shared(self.bridge, self.n_layers, length, self.vocabulary)
        return at.in_stream(hook) and self._shared[length]

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

        Raises LanguageModelError if a hook or a token does not exist.
        """
        self.check_tokens(tokens)
        found: dict[str, Tensor] = {}
        readers: Hooks = [(at.earliest(hook), at.keeper(found, hook)) for hook in self._existing(hooks)]
        last = max((at.block_of(at.earliest(hook), self.n_layers) for hook in hooks), default=0)
        stop = last + 1 if last < self.n_layers - 1 else None
        fewer: dict[str, Any] = {"logits_to_keep": 1} if self._keeps_logits else {}
        self.bridge.run_with_hooks(tokens, fwd_hooks=readers, stop_at_layer=stop, use_cache=False, **fewer)
        return found

    def check_tokens(self, tokens: Tensor) -> None:
        """Refuse tokens that are not this model's (LanguageModelError)."""
        known = isinstance(tokens, Tensor)
        if not known or tokens.ndim != 2 or tokens.dtype != torch.int64 or tokens.numel() == 0:
            given = f"{tokens.dtype} {tuple(tokens.shape)}" if known else type(tokens).__name__
            wanted = "an int64 tensor (sequence, position)"
            raise LanguageModelError(f"tokens: must be {wanted}, given {given}; encode makes ids of texts")
        if tokens.shape[1] > self.context:
            raise LanguageModelError(
                f"tokens: {tokens.shape[1]} positions, {self.id!r} has a context of {self.context}"
            )
        low, high = torch.stack(tokens.aminmax()).tolist()
        if low < 0 or high >= self.vocabulary:
            raise LanguageModelError(
                f"tokens of another vocabulary: ids from {low} to {high}, {self.id!r} has {self.vocabulary}; "
                "use its own tokenizer"
            )

    def _unknown(self, hook: str) -> str:
        layer = at.block_of(hook, -1)
        if layer >= self.n_layers:
            return f"hook {hook!r}: no layer {layer}, {self.id!r} has {self.n_layers}: 0 to {self.n_layers - 1}"
        near = difflib.get_close_matches(hook, self.bridge.hook_dict, n=5, cutoff=0.5)
        listed = ", ".join(near) if near else "names such as blocks.0.hook_mlp_out, blocks.0.hook_resid_pre"
        return f"hook {hook!r}: model {self.id!r} has none of this name; near: {listed}"
