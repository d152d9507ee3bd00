"""Write SAEs in the formats of other libraries: SAELens, sparsify. As safetensors; no pickle is written.

Libraries whose own format is a pickle take the tensors by hand. With `one = mfrlib.models.untied.untied(sae[0])`:

- dictionary_learning, `AutoEncoderTopK(d_in, n_features, k)`: `encoder.weight` = `one.encoder[0]`, `encoder.bias` =
  `one.bias[0]`, `decoder.weight` = `one.weight[0].T`, `b_dec` = `one.decoder_bias[0]`.
- overcomplete, `TopKSAE(d_in, nb_concepts, top_k, encoder_module=…)`: an encoder module that returns twice
  `x @ one.encoder[0].T + one.bias[0]`, and a dictionary layer whose weights are `one.weight[0]` (as they are:
  `dictionary_params={"normalization": "identity"}`). It keeps negative activations as we do, and has no decoder bias.
"""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mfrlib.config import require
from mfrlib.data.files import save_tensors
from mfrlib.data.in_memory import as_rows
from mfrlib.environment import absolute
from mfrlib.models.sae import TopKSAE
from mfrlib.models.sae_files import CONFIG, SAEFileError, require_no_file
from mfrlib.models.stack import SAEStack
from mfrlib.models.untied import UntiedSAE, untied

SAELENS, SPARSIFY = "sae_weights.safetensors", "sae.safetensors"
_SAELENS_FORMAT = "6.0.0"
"""`metadata.sae_lens_version`: below 6 SAELens takes the configuration for an old one and drops where the SAE belongs."""


class Exported(NamedTuple):
    """A folder that was written, and what its reader loses on the sample, where one was given.

    Other libraries cut activations at 0, a `TopKSAE` without `activation="relu"` keeps negative ones among the k largest.
    """

    folder: Path
    rows: int | None = None
    """Rows of the sample on which a negative activation is kept."""
    entries: int | None = None
    """Kept activations that are negative."""
    largest: float | None = None
    """Largest absolute difference that this makes to an entry of a reconstruction."""


def to_saelens(
    sae: SAEStack, folder: str | os.PathLike[str], *, model: str = "", hook: str = "", sample: Any = None
) -> list[Exported]:
    """Write an SAE, or a folder for each one of a stack, in float32, for `sae_lens.SAE.load_from_disk`.

    Parameters
    ----------
    sae : TopKSAE, ReLUSAE, or what `load_foreign` gives
        One goes into the folder itself, several into `0`, `1`, … in it.
    folder : path-like
    model, hook : str
        The model's name and the hook in it, in TransformerLens's words: without a hook SAELens attaches the SAE to
        nothing. SAELens replaces the beginning-of-sequence position too, unless told otherwise
        (`add_sae(…, exclude_special_tokens=True)`).
    sample : Tensor or array (n, d_in), optional
        Activations on which negative entries are counted.

    Returns
    -------
    list of Exported
        One for each SAE.

    Warns
    -----
    UserWarning
        If negative activations are kept on the sample: the reader of the file cuts them at 0.

    Raises
    ------
    ConfigError
        If `model` or `hook` is no string, or weights or sample are not finite, or the sample is of another width.
    SAEFileError
        If the folder holds an SAE in another format, or one that this export would leave beside its own.
    """
    for name, value in (("model", model), ("hook", hook)):
        require(isinstance(value, str), name, value, "must be a string")

    def contents(one: UntiedSAE) -> tuple[dict[str, Tensor], dict[str, Any]]:
        _, n_features, d_in = one.weight.shape
        by = {"sae_lens_version": _SAELENS_FORMAT, "made_by": f"mfrlib {sys.modules['mfrlib'].__version__}"}
        about = {**by, "model_name": model, "hook_name": hook}
        kind = {"architecture": "standard"} if one.k is None else {"architecture": "topk", "k": one.k[0]}
        config = {
            **kind, "d_in": d_in, "d_sae": n_features, "dtype": "float32", "device": "cpu",
            "apply_b_dec_to_input": one.subtracts, "normalize_activations": "none", "reshape_activations": "none",
            **({} if one.k is None else {"rescale_acts_by_decoder_norm": False}), "metadata": about,
        }  # fmt: skip
        encoder = {"W_enc": one.encoder[0].T, "b_enc": one.bias[0]}
        return {**encoder, "W_dec": one.weight[0], "b_dec": one.decoder_bias[0]}, config

    return _each(sae, folder, sample, SAELENS, contents)


def to_sparsify(sae: SAEStack, folder: str | os.PathLike[str], *, sample: Any = None) -> list[Exported]:
    """Write an SAE, or a folder for each one of a stack, for `sparsify.SparseCoder.load_from_disk`.

    Parameters, what is returned, warned of and raised are those of `to_saelens`. sparsify has no ReLU SAE: one is
    written with k = n_features, which gives the same outputs, slowly.
    """

    def contents(one: UntiedSAE) -> tuple[dict[str, Tensor], dict[str, Any]]:
        _, n_features, d_in = one.weight.shape
        config = {
            "activation": "topk", "expansion_factor": max(1, n_features // d_in), "normalize_decoder": False,
            "num_latents": n_features, "k": n_features if one.k is None else one.k[0], "multi_topk": False,
            "skip_connection": False, "transcode": False, "d_in": d_in,
        }  # fmt: skip
        bias, shift = one.bias[0], one.decoder_bias[0]
        if not one.subtracts:  # sparsify always subtracts it: undone in the bias
            bias = bias + one.encoder[0] @ shift
        return {"encoder.weight": one.encoder[0], "encoder.bias": bias, "W_dec": one.weight[0], "b_dec": shift}, config

    return _each(sae, folder, sample, SPARSIFY, contents)


def _each(sae: SAEStack, folder: str | os.PathLike[str], sample: Any, name: str, contents: Any) -> list[Exported]:
    if not isinstance(sae, SAEStack):
        raise TypeError(f"sae: a TopKSAE, a ReLUSAE, or what load_foreign gives, given {type(sae).__name__}")
    folder = Path(absolute(folder))
    x, d_in = None if sample is None else as_rows(sample, "sample"), sae.weight.shape[2]
    if x is not None:
        require(x.shape[1] == d_in, "sample", tuple(x.shape), f"must be (n, d_in = {d_in})")
    require(sae.finite(), "sae", sae, "must have finite weights")
    require_no_file(folder)
    places, found = [folder] if len(sae) == 1 else [folder / str(number) for number in range(len(sae))], []
    for other in (folder / "cfg.json", *folder.glob("*/cfg.json")):
        if other.exists() and other.parent not in places:
            raise SAEFileError(f"folder {folder}: {other.parent} holds an SAE of another export; take another folder")
    for place, one in zip(places, sae, strict=True):
        fits = all(bool(torch.isfinite(value.float()).all()) for value in contents(untied(one))[0].values())
        require(fits, "sae", sae, "must have weights that stay finite in float32, which the files hold")
        require_no_file(place)
        if others := [one for one in (CONFIG, SAELENS, SPARSIFY) if one != name and (place / one).exists()]:
            raise SAEFileError(f"folder {place}: holds {others[0]}, an SAE in another format; take another folder")
    for one, place in zip(sae, places, strict=True):
        found.append(Exported(place) if x is None else _lost(one, x, place))
        _write(place, name, *contents(untied(one)))
    for written in found:
        if written.entries:
            warnings.warn(
                f"{written.folder}: {written.rows} of {len(x)} rows of the sample keep negative activations, "  # type: ignore[arg-type]
                f"{written.entries} in all. {'SAELens' if name == SAELENS else 'sparsify'} cuts them at 0, which changes reconstructions there by up to "
                f'{written.largest:.2g}. SAEs trained with activation="relu" keep none',
                stacklevel=3,
            )
    return found


@torch.no_grad()
def _lost(sae: SAEStack, x: Tensor, folder: Path) -> Exported:
    """Count what is lost where negative activations are cut off."""
    rows, entries, largest = 0, 0, 0.0
    if not isinstance(sae, TopKSAE):
        return Exported(folder, rows, entries, largest)
    for part in x.split(4096):
        output = sae(part.to(sae.weight))
        negative = output.values[0] < 0
        here = negative.any(-1)
        rows, entries = rows + int(here.sum()), entries + int(negative.sum())
        if here.any():
            lost = sae.decode(output.values, output.indices) - sae.decode(output.values.relu(), output.indices)
            largest = max(largest, lost.abs().max().item())
    return Exported(folder, rows, entries, largest)


def _write(folder: Path, name: str, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    whole = {key: value.detach().to("cpu", torch.float32).clone().contiguous() for key, value in tensors.items()}
    weights, about = folder / f".{name}.next", folder / ".cfg.json.next"
    save_tensors(whole, weights, {"format": "pt"})
    about.write_text(json.dumps(config, indent=1), encoding="utf-8")
    (folder / "cfg.json").unlink(missing_ok=True)  # or these weights could stand beside another SAE's configuration
    os.replace(weights, folder / name)
    os.replace(about, folder / "cfg.json")
