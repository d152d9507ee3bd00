"""A stack of TopK sparse autoencoders (SAEs) in one tensor; a single SAE is a stack of one."""

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from mfrlib.config import checked, require
from mfrlib.models import operators, sparse
from mfrlib.models.stack import SAEStack, settings_of


class SAEOutput(NamedTuple):
    """What a stack gives for a batch.

    Attributes
    ----------
    reconstruction : Tensor (sae, batch, d_in)
    values : Tensor (sae, batch, k)
        Activations of the selected features; exactly 0 where an SAE of the stack has a smaller k, or where ReLU cuts.
    indices : Tensor (sae, batch, k)
        Which features they belong to, int64, in no particular order; beyond an SAE's own k, where the value is 0, the number means nothing.
    """

    reconstruction: Tensor
    values: Tensor
    indices: Tensor


_pytree._register_namedtuple(SAEOutput, serialized_type_name="mfrlib.models.sae.SAEOutput")  # for torch.export.save


class TopKSAE(SAEStack):
    r"""A stack of tied-weight TopK SAEs (paper §2.1), with `encode`, `decode`, `save` and `sae[i]` of `SAEStack`.

    .. math:: \hat x = D^\top \sigma_k\big(W (x - c) + b\big) + c, \qquad D = W / \lVert W \rVert_\text{rows}

    with one weight matrix for encoder and decoder, :math:`\sigma_k` keeping the k largest entries, and :math:`c = 0`
    unless `decoder_bias`.

    Deviates: the paper's decoder is the plain transpose, its released code normalises the rows (R5); the paper's
    :math:`\sigma_k` keeps ties, ours exactly k (R6).

    Parameters
    ----------
    n_saes, d_in, n_features : int
        SAEs, width of the data, and features per SAE, each 1 or more; ConfigError otherwise, as for all that follow.
    k : int or sequence of int
        Active features per sample, one for the whole stack or one per SAE; from 1 to n_features.
    decoder : {"normalized", "raw"}
        R5: decode with unit rows, or with the encoder's rows as they are.
    activation : {"none", "relu"}
        R6: what is applied to the k selected entries.
    decoder_bias : bool
        Q9: learn a bias c (zero at first) that is subtracted before the encoder and added after the decoder.
    generator : torch.Generator, optional
        Source of the initial weights.

    Attributes
    ----------
    weight : Parameter (sae, feature, d_in)
        Rows are features. Orthonormal columns at first (R7).
    bias : Parameter (sae, feature)
    decoder_bias : Parameter (sae, d_in) or None
    k : tuple of int
        May be set, as in the constructor.

    Notes
    -----
    `state_dict()` holds k, the decoder's form and the activation beside the weights, and loading it into a stack of
    others fails. Weights by their names alone can be loaded into any stack of their shapes.

    Examples
    --------
    >>> import torch
    >>> from mfrlib import TopKSAE
    >>> sae = TopKSAE(n_saes=2, d_in=8, n_features=16, k=[4, 3])
    >>> output = sae(torch.randn(100, 8))
    >>> output.reconstruction.shape, output.values.shape
    (torch.Size([2, 100, 8]), torch.Size([2, 100, 4]))
    >>> sae[1]
    TopKSAE(n_saes=1, d_in=8, n_features=16, k=3)
    """

    kind = "TopKSAE"
    _USUAL = {"decoder": "normalized", "activation": "none", "decoder_bias": False}  # noqa: RUF012
    _TYPES = {"k": int | tuple[int, ...], "decoder": Literal["normalized", "raw"], "activation": Literal["none", "relu"],  # noqa: RUF012
              "decoder_bias": bool}  # fmt: skip
    _GUARDED = ("k", "decoder", "activation")  # without which weights mean nothing

    def __init__(self, n_saes: int, d_in: int, n_features: int, k: int | Sequence[int], *,
                 decoder: Literal["normalized", "raw"] = "normalized", activation: Literal["none", "relu"] = "none",
                 decoder_bias: bool = False, generator: torch.Generator | None = None) -> None:  # fmt: skip
        super().__init__()
        given = {"n_saes": n_saes, "d_in": d_in, "n_features": n_features,
                 "decoder": decoder, "activation": activation, "decoder_bias": decoder_bias}  # fmt: skip
        n_saes, d_in, n_features, *_ = settings_of(given, self._TYPES).values()
        self.decoder_form, self.activation = decoder, activation
        self.weight = nn.Parameter(torch.empty(n_saes, n_features, d_in))
        self.bias = nn.Parameter(torch.empty(n_saes, n_features))
        self.decoder_bias = nn.Parameter(torch.empty(n_saes, d_in)) if decoder_bias else None
        self.k = k
        for sae in range(n_saes):
            self.reinitialize(sae, generator)

    @torch.no_grad()
    def reinitialize(self, sae: int, generator: torch.Generator | None = None) -> None:
        """Give one SAE of the stack fresh weights (R7): orthonormal columns (rows, if fewer), zero biases."""
        fresh = torch.empty(self.weight.shape[1:])
        self.weight[sae] = nn.init.orthogonal_(fresh, generator=generator)
        self.bias[sae] = 0
        if self.decoder_bias is not None:
            self.decoder_bias[sae] = 0

    @property
    def k(self) -> tuple[int, ...]:
        """Active features of each SAE; what is set is checked as in the constructor."""
        return self._k

    @k.setter
    def k(self, k: Any) -> None:
        n_saes, n_features, _ = self.weight.shape
        k = checked({"k": k}, self._TYPES)["k"]
        ks: tuple[int, ...] = (k,) * n_saes if isinstance(k, int) else tuple(k)
        require(len(ks) == n_saes, "k", ks, f"one value, or one for each of the {n_saes} SAEs")
        require(all(1 <= one <= n_features for one in ks), "k", ks, f"between 1 and n_features = {n_features}")
        self._k = ks

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that make a stack of this form."""
        form = {"decoder": self.decoder_form, "activation": self.activation}
        return {**super().settings, "k": list(self.k), **form, "decoder_bias": self.decoder_bias is not None}

    def get_extra_state(self) -> Tensor:
        """Return what `state_dict()` holds beside the weights: JSON, as bytes."""
        guarded = {name: self.settings[name] for name in self._GUARDED}
        return torch.frombuffer(bytearray(json.dumps(guarded), "utf-8"), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Do nothing: what a state dict holds is compared before a weight is loaded."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        mine: Any = self.get_extra_state()
        theirs, mine = state_dict.setdefault(f"{prefix}_extra_state", mine), json.loads(bytes(mine.tolist()))
        try:
            theirs = json.loads(bytes(theirs.tolist()))
        except (AttributeError, TypeError, ValueError):
            theirs = {"what is no settings of an SAE": theirs}
        if theirs != mine:
            way_out = "make one with those settings"
            raise RuntimeError(f"state_dict: of an SAE with {theirs}, this one has {mine}; {way_out}")
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @property
    def dictionary(self) -> Tensor:
        """The decoder rows `(sae, feature, d_in)`."""
        return sparse.normalized(self.weight) if self.decoder_form == "normalized" else self.weight

    def forward(self, x: Tensor) -> SAEOutput:
        """Reconstruct `x (…, d_in)`, like the weights in dtype and device (TypeError otherwise), with every SAE; the output has its dimensions in place of `batch`."""
        arithmetic = operators if torch.compiler.is_compiling() else sparse  # a trace holds registered operators only
        codes = arithmetic.tied_topk(self._rows(x), self.weight, self._encoder_bias(), self.k, **self._form)
        return self._as_given(SAEOutput(self._shifted(codes.sums), codes.values, codes.indices), x)

    def squared_error(self, x: Tensor, factor: float = 1.0) -> sparse.Error:
        r"""Return :math:`\text{factor} \cdot \sum \lVert \hat x - x \rVert^2` of each SAE, `(sae,)`, and the codes.

        The same as from `forward`, but no reconstruction is held whole: what training needs. Gradients reach the
        parameters only. `x` must be a batch `(batch, d_in)`; ValueError otherwise.
        """
        if self._rows(x) is not x:
            raise ValueError(f"x: a batch (batch, d_in), given shape {tuple(x.shape)}")
        if self.decoder_bias is None and not torch.compiler.is_compiling():
            return sparse.squared_error(x, self.weight, self.bias, self.k, factor=factor, **self._form)
        x = x.detach()
        output = self(x)
        error = factor * (output.reconstruction - x).square().sum(dim=(1, 2))
        return sparse.Error(error, output.values.detach(), output.indices)

    def _encoder_bias(self) -> Tensor:
        """Return b, with a learned shift c moved into it, so that x is never copied per SAE."""
        if self.decoder_bias is None:
            return self.bias
        return self.bias - torch.einsum("sfd,sd->sf", self.weight, self.decoder_bias)

    @property
    def _form(self) -> dict[str, Any]:
        return {"unit_rows": self.decoder_form == "normalized", "relu": self.activation == "relu"}
