"""PyTorch's modes: a second derivative of what has only a first one is an error, not 0, and `torch.autocast` changes no result."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Final(torch.autograd.Function):
    """A gradient that autograd knows as a number, as it is; the gradient of it raises RuntimeError."""

    @staticmethod
    def forward(gradient: Tensor, by: Tensor, said: str) -> Tensor:
        """Return the gradient, which depends on `by` as far as autograd is told."""
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what to say."""
        ctx.said = inputs[2]

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> None:
        """Refuse."""
        raise RuntimeError(ctx.said)


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Have the `backward` of the kernels give gradients that are final."""

    @functools.wraps(backward)
    def final(ctx: Any, *reaching: Tensor | None) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            found = backward(ctx, *reaching)
        if not torch.is_grad_enabled():  # nobody asked for create_graph
            return found
        said = "create_graph=True: the compiled kernels give first derivatives only, and a second was asked for; start Python with MFR_NATIVE=0"
        by = torch.zeros((), requires_grad=True)
        return tuple(None if one is None else Final.apply(one, by, said) for one in found)

    return final


def exact(function: Callable[..., Any]) -> Any:
    """Have a function compute in its tensors' own type, whatever `torch.autocast` its caller is in."""

    @functools.wraps(function)
    def computed(*arguments: Any, **named: Any) -> Any:
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                with torch.autocast(kind, enabled=False):
                    return computed(*arguments, **named)
        return function(*arguments, **named)

    return computed
