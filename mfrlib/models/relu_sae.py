"""A stack of ReLU sparse autoencoders, as in the end-to-end paper: untied, with biases, decoder rows of unit norm."""

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree

from mfrlib.models import sparse
from mfrlib.models.stack import SAEStack, settings_of


class ReLUOutput(NamedTuple):
    """What a stack gives for a batch.

    Attributes
    ----------
    reconstruction : Tensor (sae, batch, d_in)
    codes : Tensor (sae, batch, feature)
        Activations of all features, 0 for most of them once trained.
    """

    reconstruction: Tensor
    codes: Tensor


# For torch.export.save.
_pytree._register_namedtuple(ReLUOutput, serialized_type_name="mfrlib.models.relu_sae.ReLUOutput")


class ReLUSAE(SAEStack):
    r"""A stack of SAEs whose sparsity is learned (arXiv 2405.12241 §2), with `encode`, `decode`, `save` and `sae[i]` of `SAEStack`.

    .. math:: \hat x = D^\top \operatorname{ReLU}(E x + b) + c, \qquad D = W / \lVert W \rVert_\text{rows}

    How many features are active is decided by the weight of a sparsity loss (`sparsity_loss`), not by a k.

    Deviates: `init="tied"` starts the encoder as the decoder's weights, with zero biases, so that short trainings do
    not spend their steps on finding it; the released code draws both apart (`init="independent"`).

    Parameters
    ----------
    n_saes, d_in, n_features : int
        SAEs, width of the data, and features per SAE, each 1 or more; ConfigError otherwise, as for `init`.
    init : {"tied", "independent"}
        How the encoder starts: as a copy of the decoder's weights (each is free afterwards), or drawn uniformly
        between ±1/√d_in, biases too.
    generator : torch.Generator, optional
        Source of the initial weights.

    Attributes
    ----------
    weight : Parameter (sae, feature, d_in)
        The decoder's rows before they are brought to unit norm. Orthonormal columns at first.
    encoder : Parameter (sae, feature, d_in)
    bias : Parameter (sae, feature)
    decoder_bias : Parameter (sae, d_in)
    k : None
        There is none.
    """

    kind = "ReLUSAE"
    _USUAL = {"init": "tied"}  # noqa: RUF012
    k = None

    def __init__(self, n_saes: int, d_in: int, n_features: int, *, init: Literal["tied", "independent"] = "tied",
                 generator: torch.Generator | None = None) -> None:  # fmt: skip
        super().__init__()
        given = {"n_saes": n_saes, "d_in": d_in, "n_features": n_features, "init": init}
        n_saes, d_in, n_features, _ = settings_of(given, {"init": Literal["tied", "independent"]}).values()
        self.init = init
        self.weight = nn.Parameter(torch.empty(n_saes, n_features, d_in))
        self.encoder = nn.Parameter(torch.empty(n_saes, n_features, d_in))
        self.bias = nn.Parameter(torch.empty(n_saes, n_features))
        self.decoder_bias = nn.Parameter(torch.empty(n_saes, d_in))
        for sae in range(n_saes):
            self.reinitialize(sae, generator)

    @torch.no_grad()
    def reinitialize(self, sae: int, generator: torch.Generator | None = None) -> None:
        """Give one SAE of the stack fresh weights."""
        fresh = nn.init.orthogonal_(torch.empty(self.weight.shape[1:]), generator=generator)
        self.weight[sae] = fresh
        self.decoder_bias[sae] = 0
        if self.init == "tied":
            self.encoder[sae], self.bias[sae] = fresh, 0
        else:
            bound = fresh.shape[1] ** -0.5
            for one in (self.encoder, self.bias):
                one[sae] = torch.empty(one.shape[1:]).uniform_(-bound, bound, generator=generator)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that make a stack of this form."""
        return {**super().settings, "init": self.init}

    @property
    def dictionary(self) -> Tensor:
        """The decoder's rows `(sae, feature, d_in)`, of unit norm."""
        return sparse.normalized(self.weight)

    def forward(self, x: Tensor) -> ReLUOutput:
        """Reconstruct `x (…, d_in)`, like the weights in dtype and device (TypeError otherwise), with every SAE; the output has its dimensions in place of `batch`."""
        hidden = F.linear(self._rows(x), self.encoder.flatten(0, 1), self.bias.flatten())  # one product for all SAEs
        codes = hidden.view(-1, *self.bias.shape).transpose(0, 1).relu()
        return self._as_given(ReLUOutput(torch.baddbmm(self.decoder_bias[:, None], codes, self.dictionary), codes), x)


def sparsity_loss(codes: Tensor, d_in: int, p: float = 1.0) -> Tensor:
    r"""Sparsity of each SAE's `codes (sae, batch, feature)`, `(sae,)`: the mean over samples of :math:`\lVert c \rVert_p / d_\text{in}`.

    Divided by d_in as in the released code, so that a weight means much the same for models of different width. p = 1 is the
    sum of activations; below 1, small activations weigh more.
    """
    return torch.linalg.vector_norm(codes, ord=p, dim=-1).mean(1) / d_in
