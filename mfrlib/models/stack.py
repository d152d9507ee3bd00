"""What every stack of SAEs does, whatever its formula: single SAEs, dense codes, its own description, files."""

import operator
import os
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from mfrlib.config import checked, require
from mfrlib.models import sae_files, sparse
from mfrlib.models.kernels import compiled
from mfrlib.models.kernels.modes import exact

Output = TypeVar("Output", bound=tuple[Tensor, ...])


def settings_of(values: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return sizes and settings of a stack as Python has them; ConfigError if one has another type, or a size is less than 1."""
    sizes = dict.fromkeys(("n_saes", "d_in", "n_features"), int)
    found = checked(values, {**sizes, **hints})
    for name in sizes:
        require(found[name] >= 1, name, found[name], "must be 1 or more")
    return found


class SAEStack(nn.Module):
    """Base of stacks of SAEs, `weight (sae, feature, d_in)`; `sae[i]` and `sae[i:j]` are stacks that share the weights, `len(sae)` counts the SAEs."""

    kind: ClassVar[str | None] = None
    """Name in files; None for what is not saved."""
    weight: Tensor
    decoder_bias: Any
    """Tensor (sae, d_in), or None."""
    k: tuple[int, ...] | None
    """Active features of each SAE; None where the data decide."""
    __call__ = exact(nn.Module.__call__)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that make a stack of this form."""
        n_saes, n_features, d_in = self.weight.shape
        return {"n_saes": n_saes, "d_in": d_in, "n_features": n_features}

    @property
    def dictionary(self) -> Tensor:
        """The decoder rows `(sae, feature, d_in)`."""
        raise NotImplementedError

    def encode(self, x: Tensor) -> Tensor:
        """Return the activations of all features, `(sae, …, feature)`, for `x (…, d_in)`; 0 where one is not active."""
        output: Any = self(x)
        if hasattr(output, "codes"):
            return output.codes
        # Added, not put: where an SAE has a smaller k than another, what is beyond it is 0 of feature 0.
        found = output.values.new_zeros(*output.values.shape[:-1], self.weight.shape[1])
        return found.scatter_add(-1, output.indices, output.values)

    @exact
    def decode(self, codes: Tensor, indices: Tensor | None = None) -> Tensor:
        r"""Return :math:`D^\top z + c`, the reconstruction `(sae, …, d_in)` of codes z.

        Parameters
        ----------
        codes : Tensor (sae, …, feature)
            Activations of all features, as `encode` gives them; or `(sae, …, k)`, those of the features in `indices`.
        indices : Tensor (sae, …, k), optional
            As in the output of a `TopKSAE`.

        Raises
        ------
        ValueError
            If there are not as many SAEs or features as in this stack, codes and indices differ in shape, or an index is of no feature.
        TypeError
            If they are no dense tensors, `codes` of the weights' dtype and `indices` int64 or int32, on the weights' device.

        Examples
        --------
        What an SAE says without its feature 3:

        >>> import torch
        >>> from mfrlib import TopKSAE
        >>> sae, x = TopKSAE(2, 8, 16, k=4), torch.randn(5, 8)
        >>> codes = sae.encode(x)
        >>> codes[..., 3] = 0
        >>> sae.decode(codes).shape
        torch.Size([2, 5, 8])
        """
        n_saes, n_features, _ = self.weight.shape
        self._require_dense(codes, "codes: a tensor (sae, …, feature) or (sae, …, k)", self.weight.dtype)
        if indices is not None:
            self._require_dense(indices, "indices: a tensor (sae, …, k)", torch.int64, torch.int32)
        fits = codes.ndim > 1 and (codes.shape[-1] == n_features if indices is None else codes.shape == indices.shape)
        if not fits or len(codes) != n_saes:
            given = "" if indices is None else f" and {tuple(indices.shape)}"
            wanted = f"codes: ({n_saes}, …, {n_features}), or values and indices of one shape ({n_saes}, …, k)"
            raise ValueError(f"{wanted}, given {tuple(codes.shape)}{given}")
        if indices is not None and indices.numel() > 0:
            if indices.device.type != "cpu" or compiled.watched():  # not waited for: beyond all, PyTorch refuses it
                indices = indices.where((indices >= 0) & (indices < n_features), n_saes * n_features)
            else:
                least, largest = map(int, indices.aminmax())
                if least < 0 or largest >= n_features:
                    raise ValueError(f"indices: features from 0 to {n_features - 1}, given {least} to {largest}")
        return self._decoded(codes, indices)

    def _decoded(self, codes: Tensor, indices: Tensor | None = None) -> Tensor:
        n_saes, _, d_in = self.weight.shape
        rows = codes.reshape(n_saes, -1, codes.shape[-1])
        if indices is None:
            sums = rows @ self.dictionary
        else:
            sums = sparse.decode(rows, indices.reshape(rows.shape), self.dictionary)
        return self._shifted(sums).view(*codes.shape[:-1], d_in)

    def _shifted(self, sums: Tensor) -> Tensor:
        return sums if self.decoder_bias is None else sums + self.decoder_bias[:, None]

    def usage(self, output: Any) -> tuple[Tensor, int]:
        """Return for how many samples of a batch each feature is active `(sae, feature)`, and the number of samples."""
        codes = output.codes if hasattr(output, "codes") else output.indices
        return activation_counts(output, self.weight.shape[1]), codes[0, ..., 0].numel()

    @classmethod
    def of(cls, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return a stack of given settings and parameters, which are taken as they are: nothing is drawn or copied.

        Raises ValueError if no stack has these settings, or these parameters are not its own.
        """
        given = {name: tuple(value.shape) for name, value in tensors.items()}
        try:
            sizes = tuple(settings.get(name) for name in ("n_saes", "n_features", "d_in"))
            if given.get("weight") != sizes:  # before anything of such sizes is made
                raise ValueError(f"parameters of this {cls.__name__}: weight {sizes}, given {given}")
            with torch.device("meta"):
                made = cls(**settings)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"settings of a {cls.__name__}: {error}") from error
        expected = {name: tuple(value.shape) for name, value in made.named_parameters()}
        if given != expected:
            raise ValueError(f"parameters of this {cls.__name__}: {expected}, given {given}")
        dtypes = {value.dtype for value in tensors.values()}
        if len(dtypes) > 1 or not all(one.is_floating_point for one in dtypes):
            raise ValueError(f"parameters: one floating-point type for all, given {', '.join(map(str, dtypes))}")
        for name, value in tensors.items():
            setattr(made, name, nn.Parameter(value))
        return made

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `config.json` and `sae.safetensors` into a folder; `mfrlib.load` opens it. An SAE there is replaced, in one step.

        Raises SAEFileError if the folder is a file or holds something else of these names, or `mfrlib.load` could not open
        what would be written: weights that are pruned or parametrised, of several types, or on the meta device.
        """
        if self.kind is None:
            raise sae_files.SAEFileError(f"{self!r} is read-only: keep the folder that it was loaded from")
        tensors: dict[str, Tensor] = dict(self.named_parameters())
        saved: Any = next(one for one in type(self).__mro__ if "kind" in vars(one))  # what a subclass is opened as
        try:
            saved.of(self.settings, tensors)
        except ValueError as error:
            raise sae_files.SAEFileError(f"{error}; nothing was written") from error
        if any(value.is_meta for value in tensors.values()):
            raise sae_files.SAEFileError(f"{self!r} is on the meta device, without values to write")
        sae_files.write(folder, sae_files.Stored(self.kind, self.settings, tensors))

    def finite(self) -> bool:
        """Tell whether all weights are finite; on the meta device there are none."""
        return all(not parameter.is_meta and bool(torch.isfinite(parameter).all()) for parameter in self.parameters())

    def __len__(self) -> int:
        """Return the number of SAEs."""
        return len(self.weight)

    def __getitem__(self, which: int | slice) -> Self:
        """Return one SAE, as a stack of one, or some of them; they share the weights with this stack.

        A change of the values is one of both, but gradients are kept apart.
        """
        if not isinstance(which, slice):
            number = operator.index(which)
            if not -len(self) <= number < len(self):
                raise IndexError(f"SAE {number}: there are {len(self)}, 0 to {len(self) - 1}")
            which = slice(number % len(self), number % len(self) + 1)
        numbers = range(len(self))[which]
        if not numbers or numbers.step < 0:
            raise IndexError(f"{which}: must take one SAE of {len(self)} or more, by a positive step")
        settings = self.settings | {"n_saes": len(numbers)}
        if "k" in settings:
            settings["k"] = [settings["k"][number] for number in numbers]
        made = self.of(settings, {name: value.detach()[which] for name, value in self.named_parameters()})
        for mine, theirs in zip(self.parameters(), made.parameters(), strict=True):
            theirs.requires_grad_(mine.requires_grad)
        return made.train(self.training)

    def __iter__(self) -> Iterator[Self]:
        """Yield the SAEs, each as a stack of one."""
        return (self[number] for number in range(len(self)))

    def extra_repr(self) -> str:
        """Return the settings, those at their defaults left out."""
        shown = dict(self.settings)
        if len(set(shown.get("k", ()))) == 1:
            shown["k"] = shown["k"][0]
        usual = getattr(self, "_USUAL", {})
        return ", ".join(f"{name}={one!r}" for name, one in shown.items() if name not in usual or usual[name] != one)

    def _rows(self, x: Tensor) -> Tensor:
        """Return `x (…, d_in)` as `(batch, d_in)`, refusing another width or type."""
        d_in = self.weight.shape[2]
        self._require_dense(x, f"x: a tensor (…, d_in = {d_in})", self.weight.dtype)
        if x.ndim == 0 or x.shape[-1] != d_in:
            raise ValueError(f"x: (…, d_in = {d_in}), given shape {tuple(x.shape)}")
        return x if x.ndim == 2 else x.reshape(-1, d_in)

    def _require_dense(self, given: Any, wanted: str, *dtypes: torch.dtype) -> None:
        """Refuse what is no dense tensor of one of the dtypes on the device of the weights (TypeError)."""
        if not isinstance(given, Tensor):
            raise TypeError(f"{wanted}, given {type(given).__name__}; torch.as_tensor(x) makes one")
        if given.dtype not in dtypes or given.layout != torch.strided or given.device != self.weight.device:
            allowed = f"{' or '.join(map(str, dtypes))}, {torch.strided}, on {self.weight.device}"
            found = f"{given.dtype}, {given.layout}, on {given.device}, of shape {tuple(given.shape)}"
            raise TypeError(f"{wanted} of {allowed}, as the weights {tuple(self.weight.shape)} are, given {found}")

    @staticmethod
    def _as_given(output: Output, x: Tensor) -> Output:
        """Give each tensor `(sae, batch, …)` of an output the dimensions of `x (…, d_in)` in place of the batch."""
        if x.ndim == 2:
            return output
        shaped = (one.reshape(len(one), *x.shape[:-1], one.shape[-1]) for one in output)
        return type(output)(*shaped)


def activation_counts(output: Any, n_features: int) -> Tensor:
    """Count for how many samples of a batch each feature is active (non-zero): `(sae, feature)`, float32."""
    if hasattr(output, "codes"):
        return (output.codes.flatten(1, -2) > 0).sum(1).float()
    counts = torch.zeros(len(output.indices), n_features, dtype=torch.float32, device=output.indices.device)
    return counts.scatter_add_(1, output.indices.flatten(1), (output.values != 0).float().flatten(1))
