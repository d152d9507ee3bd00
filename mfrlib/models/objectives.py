"""What SAEs are trained for and measured by: reconstruction, and what a model's outputs lose."""

from typing import Any, Literal

import torch
from torch import Tensor

Reduction = Literal["mean", "sum"]


def reconstruction_loss(reconstruction: Tensor, x: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Squared error of each SAE, `(sae,)`: the mean over samples of :math:`\lVert x - \hat x \rVert_2^2` (paper §2.1).

    Parameters
    ----------
    reconstruction : Tensor (sae, batch, d_in)
    x : Tensor (batch, d_in)
    reduction : {"mean", "sum"}
        R12: over the elements of a sample. The mean (released code) is d_in times smaller than the sum (the formula),
        so a penalty of the same α weighs d_in times more.
    """
    mean = (reconstruction - x).square().mean(dim=(1, 2))
    return mean if reduction == "mean" else mean * x.shape[1]


def doubled(x: Tensor) -> Tensor:
    """Return a tensor in double precision: on the CPU where its device has none (MPS)."""
    return (x.cpu() if x.device.type == "mps" else x).double()


class FVU:
    r"""Fraction of variance unexplained over a stream of batches.

    .. math:: \text{FVU} = \frac{\sum \lVert x - \hat x \rVert^2}{\sum \lVert x - \bar x \rVert^2}

    Sums over all samples and elements, not a mean of per-batch ratios; 1 is what the mean alone would give.
    """

    def __init__(self) -> None:
        self.n = 0
        self.error = self.total = self.squares = torch.zeros(())

    def update(self, reconstruction: Tensor, x: Tensor) -> None:
        """Add a batch: `reconstruction (sae, batch, d_in)` of `x (batch, d_in)`."""
        self.n += len(x)
        self.error = self.error + doubled(reconstruction - x).square().sum(dim=(1, 2))
        self.total = self.total + doubled(x).sum(0)
        self.squares = self.squares + doubled(x).square().sum()

    def value(self) -> Tensor:
        """Return the FVU of each SAE, `(sae,)`."""
        return self.error / (self.squares - self.total.square().sum() / self.n)


def kl_divergence(original: Tensor, new: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence of each SAE's outputs from the original model's, `(sae,)`, in nats per position; ValueError for other shapes.

    .. math:: \frac1n \sum_{t=1}^{n} \sum_v p_t(v) \log \frac{p_t(v)}{q_t(v)}
        = \operatorname{KL}(\text{original} \,\|\, \text{new})

    with p the softmax of the original logits and q that of the new ones: what the original model thinks likely must stay
    likely. The mean is over positions, whatever sequence they belong to.

    Deviates: nothing from the released code (arXiv 2405.12241), which computes this direction although its docstring
    names the other one.

    Parameters
    ----------
    original : Tensor (n, vocabulary)
        Logits without SAEs. No gradient flows into them.
    new : Tensor (sae, n, vocabulary)
        Logits with each SAE's reconstruction inserted.
    """
    if original.ndim != 2 or new.ndim != 3 or new.shape[1:] != original.shape:
        raise ValueError(
            "logits: original (n, vocabulary) and new (sae, n, vocabulary), "
            f"given {tuple(original.shape)} and {tuple(new.shape)}"
        )
    return _KL.apply(original.detach(), new)


class _KL(torch.autograd.Function):
    """Tiles that stay in the processor's cache: value and gradient, q - p, in one pass over the logits."""

    TILE = 64  # positions

    @staticmethod
    def forward(ctx: Any, original: Tensor, new: Tensor) -> Tensor:
        gradient = torch.empty_like(new) if ctx.needs_input_grad[1] else None
        total = new.new_zeros(len(new))
        for start in range(0, len(original), _KL.TILE):
            rows = slice(start, start + _KL.TILE)
            p, p_scale = _softmax(original[rows])
            for sae, logits in enumerate(new[:, rows]):
                q, q_scale = _softmax(logits)
                # log p - log q = (original - new) - (log-sum-exp of original - that of new); p sums to 1
                total[sae] += torch.linalg.vecdot(p, original[rows] - logits).sum() + (q_scale - p_scale).sum()
                if gradient is not None:
                    torch.sub(q, p, out=gradient[sae, rows])
        if gradient is not None:
            ctx.save_for_backward(gradient.div_(len(original)))
        return total / len(original)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_total: Tensor) -> tuple[None, Tensor]:
        return None, ctx.saved_tensors[0] * d_total[:, None, None]


def _softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the softmax and, from its largest entry, the log-sum-exp: exponentials are taken once."""
    probabilities = logits.softmax(-1)
    return probabilities, logits.amax(-1) - probabilities.amax(-1).log()
