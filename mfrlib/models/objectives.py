"""What SAEs are trained for and measured by: reconstruction, and what a model's outputs lose."""

from typing import Literal

import torch
from torch import Tensor

from mfrlib.models.kernels.modes import WithGradient, exact

Reduction = Literal["mean", "sum"]


def reconstruction_loss(reconstruction: Tensor, x: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Squared error of each SAE, `(sae,)`: the mean over samples of :math:`\lVert x - \hat x \rVert_2^2 / d`, not divided by d = d_in with `reduction="sum"` (paper §2.1).

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

    Sums over all samples and elements, not a mean of per-batch ratios; 1 is what the mean alone would give; inf where the data do not vary.
    """

    def __init__(self) -> None:
        self.n = self.batches = 0
        self.error = self.total = self.squares = torch.zeros(())

    def update(self, reconstruction: Tensor, x: Tensor) -> None:
        """Add a batch: `reconstruction (sae, batch, d_in)` of `x (batch, d_in)`."""
        self.n, self.batches = self.n + len(x), self.batches + 1
        self.error = self.error + doubled(reconstruction - x).square().sum(dim=(1, 2))
        self.total = self.total + doubled(x).sum(0)
        self.squares = self.squares + doubled(x).square().sum()

    def value(self) -> Tensor:
        """Return the FVU of each SAE, `(sae,)`."""
        variance = self.squares - self.total.square().sum() / self.n
        rounding = (64 + 2 * self.batches) * torch.finfo(torch.float64).eps * self.squares
        return torch.where(variance <= rounding, torch.inf, self.error / variance)


@exact
def kl_divergence(original: Tensor, new: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence of each SAE's outputs from the original model's, `(sae,)`, in nats per position; ValueError for other shapes.

    .. math:: \frac1n \sum_{t=1}^{n} \sum_v p_t(v) \log \frac{p_t(v)}{q_t(v)}
        = \operatorname{KL}(\text{original} \,\|\, \text{new})

    with p the softmax of the `original (n, vocabulary)` logits, without SAEs, into which no gradient flows, and q that of the
    `new (sae, n, vocabulary)` ones, with each SAE's reconstruction inserted: what the original model thinks likely must stay
    likely. The mean is over positions, whatever sequence they belong to.

    Deviates: nothing from the released code (arXiv 2405.12241), which computes this direction although its docstring
    names the other one.
    """
    if original.ndim != 2 or new.ndim != 3 or new.shape[1:] != original.shape:
        wanted = "logits: original (n, vocabulary) and new (sae, n, vocabulary)"
        raise ValueError(f"{wanted}, given {tuple(original.shape)} and {tuple(new.shape)}")
    learns = torch.is_grad_enabled() and new.requires_grad
    with torch.no_grad():
        value, gradient = _kl(original, new, learns)
    return WithGradient.apply(new, value, gradient, new[:0].clone()) if learns else value


TILE = 64  # positions, which stay in the processor's cache


def _kl(original: Tensor, new: Tensor, learns: bool) -> tuple[Tensor, Tensor]:
    """Return the divergence and its gradient by the new logits, (q - p) / n, in one pass over them."""
    gradient = torch.empty_like(new) if learns else new.new_empty(0)
    total = new.new_zeros(len(new))
    for start in range(0, len(original), TILE):
        rows = slice(start, start + TILE)
        p, p_scale = _softmax(original[rows])
        for sae, logits in enumerate(new[:, rows]):
            q, q_scale = _softmax(logits)
            # log p - log q = (original - new) - (log-sum-exp of original - that of new); p sums to 1
            total[sae] += torch.linalg.vecdot(p, original[rows] - logits).sum() + (q_scale - p_scale).sum()
            if learns:
                torch.sub(q, p, out=gradient[sae, rows])
    return total / len(original), gradient.div_(len(original))


def _softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the softmax and, from its largest entry, the log-sum-exp: exponentials are taken once."""
    probabilities = logits.softmax(-1)
    return probabilities, logits.amax(-1) - probabilities.amax(-1).log()
