"""More sequences from a place in a language model on than it was given tokens of: one for each SAE of a stack."""

import re
from typing import Any

import torch
from torch import Tensor

_IN_STREAM = re.compile(r"\.hook_resid_(pre|post)$")


class Widened(Exception):
    """A replacement of more sequences than a model can take from there on."""

    def __init__(self, hook: str, new: Tensor) -> None:
        super().__init__(hook)
        self.hook, self.new = hook, new


def in_stream(hook: str) -> bool:
    """Tell whether a hook is in the residual stream between blocks, where nothing that came before is added again."""
    return bool(_IN_STREAM.search(hook))


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
