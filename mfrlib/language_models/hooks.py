"""What a hook of TransformerLens does: keep an activation, put another in its place, or more of them than came."""

import re
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor

from mfrlib.language_models.pretrained.names import LanguageModelError

Replacement = Tensor | Callable[[Tensor], Tensor]
"""What takes the place of an activation, a tensor of its shape or a function of it."""
Hooks = list[tuple[str | Callable[..., Any], Callable[..., Any]]]


class Widened(Exception):
    """A replacement of more sequences than a model can take from there on."""

    def __init__(self, hook: str, new: Tensor) -> None:
        super().__init__(hook)
        self.hook, self.new = hook, new


def in_stream(hook: str) -> bool:
    """Tell whether a hook is in the residual stream between blocks, where nothing that came before is added again."""
    return bool(re.search(r"\.hook_resid_(pre|post)$", hook))


@torch.no_grad()
def is_shared(bridge: Any, n_layers: int, length: int, vocabulary: int) -> bool:
    """Tell whether the blocks of a model take more sequences than it was given tokens of, and give each the same as alone.

    Many models build their attention masks for the batch of tokens; some of them only for sequences longer than a window,
    so the answer is for sequences of a length.
    """
    tokens = torch.arange(2 * length, device=next(bridge.parameters()).device).view(2, length) % vocabulary
    hook, twice = f"blocks.{n_layers - 1}.hook_resid_pre", []

    def widen(value: Tensor, hook: Any) -> Tensor:
        twice.append(torch.cat([value, 0.5 * value]))
        return twice[0]

    def put(value: Tensor, hook: Any) -> Tensor:
        return twice[0]

    try:
        shared = bridge.run_with_hooks(tokens, fwd_hooks=[(hook, widen)], use_cache=False)
        apart = bridge.run_with_hooks(tokens.repeat(2, 1), fwd_hooks=[(hook, put)], use_cache=False)
        return torch.allclose(shared, apart, rtol=1e-3, atol=1e-3)
    except (RuntimeError, ValueError, IndexError, TypeError):  # whatever a model says of shapes that differ
        return False


@torch.no_grad()
def is_causal(bridge: Any, tokens: Tensor) -> bool:
    """Tell whether what a model says at a position of `tokens (1, position)` stays the same whatever comes later."""
    half, both = tokens.shape[1] // 2, tokens.repeat(2, 1)
    both[1, half:] = 0
    one, other = bridge(both, use_cache=False)[:, :half]
    return not (one - other).abs().max() > 1e-4 * one.abs().max()  # rounding is a hundredth of that; NaN is said later


@torch.no_grad()
def attend_natively(bridge: Any, tokens: Tensor) -> None:
    """Let attention be computed by transformers, in up to half the time, wherever that gives the same logits for `tokens (1, position)`.

    TransformerLens computes it step by step, so that patterns can be read. An SAE reads vectors: at the input and output of
    attention, hooks stay.
    """
    from transformer_lens.model_bridge import AttentionBridge

    found = (getattr(block, "attn", None) for block in getattr(bridge, "blocks", ()))
    layers = [one for one in found if isinstance(one, AttentionBridge)]
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


def block_of(hook: str, otherwise: int) -> int:
    """Return the number of a hook's block: that of the embeddings is 0, what follows the blocks has `otherwise`."""
    found = re.match(r"blocks\.(\d+)\.", hook)
    if found:
        return int(found[1])
    return 0 if hook.startswith(("hook_embed", "hook_pos_embed", "embed.", "pos_embed.")) else otherwise


def earliest(hook: str) -> str:
    """Return the hook where an activation is first computed: the residual stream before a block is that after the last."""
    found = re.fullmatch(r"blocks\.([1-9]\d*)\.hook_resid_pre", hook)
    return f"blocks.{int(found[1]) - 1}.hook_resid_post" if found else hook


def keeper(kept: dict[str, Any], name: str) -> Callable[..., None]:
    """Return a hook that keeps the activation under a name."""

    def keep(value: Tensor, hook: Any) -> None:
        kept[name] = value

    return keep


def replacer(name: str, replacement: Replacement, shares: bool) -> Callable[..., Tensor]:
    """Return a hook that puts a replacement in the activation's place, of more sequences only where that is shared."""

    def replace(value: Tensor, hook: Any) -> Tensor:
        new: Any = replacement(value) if callable(replacement) else replacement
        if not isinstance(new, Tensor):
            raise LanguageModelError(f"replacement at {name!r} must be or give a tensor, given {type(new).__name__}")
        if new.shape[1:] != value.shape[1:] or len(new) % len(value) or not len(new):
            raise LanguageModelError(
                f"replacement at {name!r} has shape {tuple(new.shape)}, the activation {tuple(value.shape)}"
            )
        if len(new) > len(value) and not shares:
            raise Widened(name, new)
        return new

    return replace
