"""An SAE in the form that other libraries have: encoder and decoder apart, activations never negative."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mfrlib.models.relu_sae import ReLUOutput
from mfrlib.models.sae import SAEOutput
from mfrlib.models.stack import SAEStack


class UntiedSAE(SAEStack):
    r"""A stack of one SAE with an encoder and a decoder of its own, read-only: what other libraries have.

    .. math:: \hat x = D^\top \sigma(E (x - s) + b) + c, \qquad s = c \text{ or } 0

    with σ a ReLU, after the selection of the k largest entries where there is a k.

    Attributes
    ----------
    weight, dictionary : Tensor (1, feature, d_in)
        D, its rows as they are.
    encoder : Tensor (1, feature, d_in)
    bias : Tensor (1, feature)
    decoder_bias : Tensor (1, d_in)
        The c of the formula.
    k : tuple of int, or None
    subtracts : bool
        Whether c is subtracted before the encoder.
    library : str
    model, hook : str
        Where the SAE belongs, if its folder says so.
    """

    def __init__(self, n_saes: int, d_in: int, n_features: int, k: list[int] | None = None, *, subtracts: bool = False,
                 library: str = "", model: str = "", hook: str = "") -> None:  # fmt: skip
        super().__init__()
        self.k, self.subtracts = None if k is None else tuple(k), subtracts
        self.library, self.model, self.hook = library, model, hook
        if k is not None and not all(1 <= one <= n_features for one in k):
            raise ValueError(f"k: between 1 and n_features = {n_features}, given {k}")
        shape = n_saes, n_features, d_in
        self.weight, self.encoder = nn.Parameter(torch.empty(shape)), nn.Parameter(torch.empty(shape))
        self.bias, self.decoder_bias = nn.Parameter(torch.empty(shape[:2])), nn.Parameter(torch.empty(n_saes, d_in))

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that make an SAE of this form."""
        form = {} if self.k is None else {"k": list(self.k)}
        where = {"library": self.library, "model": self.model, "hook": self.hook}
        return {**super().settings, **form, "subtracts": self.subtracts, **where}

    @property
    def dictionary(self) -> Tensor:
        """The decoder rows `(1, feature, d_in)`, of whatever norm they have."""
        return self.weight

    def forward(self, x: Tensor) -> SAEOutput | ReLUOutput:
        """Reconstruct `x (…, d_in)`; the output is that of a `TopKSAE` where there is a k, else that of a `ReLUSAE`."""
        shift = self.decoder_bias[0] if self.subtracts else 0
        hidden = F.linear(self._rows(x) - shift, self.encoder[0], self.bias[0])[None]
        if self.k is None:
            codes = hidden.relu()
            return self._as_given(ReLUOutput(self._decoded(codes), codes), x)
        values, indices = hidden.topk(self.k[0], sorted=False)
        values = values.relu()
        return self._as_given(SAEOutput(self._decoded(values, indices), values, indices), x)


def untied(sae: SAEStack) -> UntiedSAE:
    """Return a stack of one SAE with an encoder and a decoder of its own, which share what can be shared.

    Where the k selected entries are cut at 0 afterwards or are positive, its outputs are those of the SAE given.
    """
    if isinstance(sae, UntiedSAE):
        return sae
    own, shift = dict(sae.named_parameters()), sae.weight.new_zeros(len(sae), sae.weight.shape[2])
    tensors = {
        "weight": sae.dictionary.detach(),
        "encoder": own.get("encoder", own["weight"]).detach(),
        "bias": own["bias"].detach(),
        "decoder_bias": own.get("decoder_bias", shift).detach(),
    }
    settings = {name: value for name, value in sae.settings.items() if name in ("n_saes", "d_in", "n_features", "k")}
    subtracts = "encoder" not in own and "decoder_bias" in own
    return UntiedSAE.of(settings | {"subtracts": subtracts}, tensors).requires_grad_(False)
