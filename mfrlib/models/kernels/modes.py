"""PyTorch's modes: a second derivative that is not to be had is an error, not 0, and `torch.autocast` changes no result."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


class WithGradient(torch.autograd.Function):
    """A value that depends on a tensor: `known` are its gradient `(sae, …)`, and the tensor or a part of it. Without, to ask for the gradient is an error."""

    @staticmethod
    def forward(by: Tensor, value: Tensor, *known: Tensor) -> Tensor:
        """Return the value."""
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Keep what is known."""
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    def backward(ctx: Any, d_value: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient, scaled by what reaches the value."""
        if not ctx.saved_tensors:
            refused = "create_graph=True: kernels, penalty and kl_divergence have first derivatives, and a second was asked for"
            raise RuntimeError(f"{refused}; MFR_NATIVE=0, set before Python starts, gives that of activations")
        gradient, part = ctx.saved_tensors
        found = gradient * d_value.reshape(-1, 1, 1)
        return WithGradient.apply(part, found) if torch.is_grad_enabled() else found, None, None, None


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Have the gradients that `backward` computes without autograd, from inputs that it has saved, refuse to be differentiated."""

    @functools.wraps(backward)
    def final(ctx: Any, *reaching: Tensor | None) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            found = backward(ctx, *reaching)
        if not torch.is_grad_enabled():
            return found
        inputs = (one for one in (*ctx.saved_tensors, *reaching) if one is not None and one.requires_grad)
        by = torch.cat([one.flatten()[:0] for one in inputs])  # empty, and dependent on all
        return tuple(None if one is None else WithGradient.apply(by, one) for one in found)

    return final


def exact(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function compute in its tensors' own type, whatever `torch.autocast` its caller is in."""

    @functools.wraps(function)
    def computed(*arguments: P.args, **named: P.kwargs) -> R:
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                with torch.autocast(kind, enabled=False):
                    return computed(*arguments, **named)
        return function(*arguments, **named)

    return computed
