"""SAEs of SAELens and sparsify, opened from their folders to be measured beside ours; nothing is unpickled.

Two libraries' SAEs are compared in five lines::

    ours, theirs = mfrlib.load("my-sae"), mfrlib.load_foreign("their-sae")
    print(mfrlib.mmcs(ours.dictionary[0], theirs.dictionary[0]))
    print(mfrlib.matched_cosine(ours.dictionary[0], theirs.dictionary[0]))
    print(mfrlib.evaluate(ours, x).results["fvu"])
    print(mfrlib.evaluate(theirs, x).results["fvu"])
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mfrlib.config import checked
from mfrlib.environment import absolute, require_device
from mfrlib.models.sae_files import SAEFileError, json_object, require_folder
from mfrlib.models.untied import UntiedSAE

SUPPORTED = "SAELens's 'standard' and 'topk', and sparsify's 'topk', as safetensors"


_Read = tuple[dict[str, Any], dict[str, Tensor]]
"""Settings of an `UntiedSAE`, and its parameters in our layout: rows are features."""


def load_foreign(folder: str | os.PathLike[str], device: str | torch.device = "cpu") -> UntiedSAE:
    """Open an SAE that SAELens (`save_model`) or sparsify (`save_to_disk`) wrote.

    Parameters
    ----------
    folder : path-like
        With `cfg.json`, and `sae_weights.safetensors` (SAELens) or `sae.safetensors` (sparsify).
    device : str or torch.device

    Returns
    -------
    UntiedSAE
        In float32, with the outputs that the other library gives, up to rounding. `mmcs`, `matched_cosine` (of `dictionary[0]`),
        `evaluate` and insertion into a language model take it.

    Raises
    ------
    SAEFileError
        If there is none, it is of an architecture that is not supported, or a file is damaged; ConfigError for a device that is not there.
    """
    folder = Path(absolute(folder))
    require_device(device)
    require_folder(folder)
    weights, read = folder / "sae_weights.safetensors", _saelens
    if not weights.is_file():
        weights, read = folder / "sae.safetensors", _sparsify
    for path in (folder / "cfg.json", weights):
        if not path.is_file():
            hint = "; mfrlib.load(folder) opens what mfrlib saved" if (folder / "config.json").is_file() else ""
            hint = "; its subfolders hold SAEs" if (folder / "0" / "cfg.json").is_file() else hint
            raise SAEFileError(f"folder {folder}: no {path.name} in it; supported are {SUPPORTED}{hint}")
    try:
        config = json_object(folder / "cfg.json")
        settings, parameters = read(config, _float32(load_file(weights)))
        n_features, d_in = parameters["weight"].shape
        for name, size in (("d_in", d_in), ("d_sae", n_features), ("num_latents", n_features)):
            if config.get(name) not in (None, 0, size):  # sparsify's 0 is "as expansion_factor says"
                raise ValueError(f"{name} is {config[name]!r} in cfg.json, but {size} in the weights: of another SAE")
        sizes = {"n_saes": 1, "d_in": d_in, "n_features": n_features}
        made = UntiedSAE.of(sizes | settings, {name: value[None] for name, value in parameters.items()})
    except KeyError as error:
        raise SAEFileError(f"folder {folder}: {error} is missing; supported are {SUPPORTED}") from error
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise SAEFileError(f"folder {folder}: {error}") from error
    return made.requires_grad_(False).eval().to(device)


def _float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for name, value in tensors.items():
        if not value.is_floating_point() or not torch.isfinite(value.float()).all():
            raise ValueError(f"{name}: must be finite numbers of floating point, given {value.dtype}")
    return {name: value.float() for name, value in tensors.items()}


def _typed(config: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    """Return a value of the configuration, refusing one of another type: `"false"` would be true, and 2.5 would be 2."""
    value = config[name] if default is None else config.get(name, default)
    return checked({name: value}, {name: kind})[name]


# What does not change the arithmetic. An unknown name may, so that it is refused.
_SAELENS = {
    "architecture", "k", "d_in", "d_sae", "dtype", "device", "apply_b_dec_to_input", "normalize_activations",
    "reshape_activations", "rescale_acts_by_decoder_norm", "metadata", "decoder_init_norm", "l1_coefficient", "lp_norm",
    "l1_warm_up_steps", "aux_loss_coefficient", "use_sparse_activations",
}  # fmt: skip
_SPARSIFY = {"activation", "expansion_factor", "normalize_decoder", "num_latents", "k", "multi_topk", "d_in"}
_SPARSIFY_OFF = {"skip_connection": "a skip connection", "transcode": "a transcoder", "signed": "signed activations"}


def _saelens(config: Mapping[str, Any], tensors: dict[str, Tensor]) -> _Read:
    about = config.get("metadata") or {}
    if not isinstance(about, dict):
        raise ValueError(f"metadata: must be an object, given {about!r}")
    if _major(about.get("sae_lens_version") or config.get("sae_lens_version")) < 6:
        config = about = _before_six(config)
    elif unknown := set(config) - _SAELENS:
        raise ValueError(f"cfg.json: unknown {', '.join(sorted(unknown))}; supported are {SUPPORTED}")
    architecture = config.get("architecture")
    if architecture not in ("standard", "topk"):
        raise ValueError(f"architecture {architecture!r} is not supported; supported are {SUPPORTED}")
    for name in ("normalize_activations", "reshape_activations"):
        if config.get(name, "none") != "none":
            given = f"{name} = {config[name]!r}"
            raise ValueError(f"{given} is not supported, only 'none'; fold it into the weights with SAELens")
    if hook_out := about.get("hook_name_out"):
        raise ValueError(f"a transcoder to {hook_out!r} is not supported; supported are {SUPPORTED}")
    _require_layout(tensors, {"W_enc": "df", "b_enc": "f", "W_dec": "fd", "b_dec": "d"})
    encoder, bias, decoder = tensors["W_enc"].T.contiguous(), tensors["b_enc"], tensors["W_dec"]
    settings: dict[str, Any] = {
        "library": "SAELens",
        "subtracts": _typed(config, "apply_b_dec_to_input", bool, True),
        "model": about.get("model_name") or "",
        "hook": about.get("hook_name") or "",
    }
    if architecture == "topk":
        settings["k"] = [_typed(config, "k", int)]
        if _typed(config, "rescale_acts_by_decoder_norm", bool, False):  # rows of norm 1 select so: give them that
            norm = decoder.norm(dim=-1).clamp(min=1e-12)
            encoder, bias, decoder = encoder * norm[:, None], bias * norm, decoder / norm[:, None]
    return settings, {"weight": decoder, "encoder": encoder, "bias": bias, "decoder_bias": tensors["b_dec"]}


def _before_six(config: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a configuration of SAELens before 6, as SAELens 6 does."""
    activation = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    if activation not in ("relu", "topk"):
        raise ValueError(f"activation {activation!r} is not supported; supported are {SUPPORTED}")
    if config.get("finetuning_scaling_factor"):
        raise ValueError("finetuning_scaling_factor is not supported; fold it into the weights with SAELens")
    normalize = config.get("normalize_activations") or "none"
    hook = config.get("hook_name", config.get("hook_point", ""))
    found = {
        "architecture": config.get("architecture", "standard"),
        "apply_b_dec_to_input": config.get("apply_b_dec_to_input", True),
        "normalize_activations": "expected_average_only_in" if normalize is True else normalize,
        "reshape_activations": config.get("reshape_activations", "hook_z" if "hook_z" in hook else "none"),
        "model_name": config.get("model_name"),
        "hook_name": hook,
    }
    given = {**config, **(config.get("activation_fn_kwargs") or {})}
    found |= {name: given[name] for name in ("k", "rescale_acts_by_decoder_norm") if name in given}
    return found | ({"architecture": "topk"} if activation == "topk" else {})


def _sparsify(config: Mapping[str, Any], tensors: dict[str, Tensor]) -> _Read:
    if on := [what for name, what in _SPARSIFY_OFF.items() if config.get(name)]:
        raise ValueError(f"{on[0]} is not supported; supported are {SUPPORTED}")
    if config.get("activation", "topk") != "topk":
        raise ValueError(f"activation {config['activation']!r} is not supported; supported are {SUPPORTED}")
    if unknown := set(config) - _SPARSIFY - {*_SPARSIFY_OFF}:
        raise ValueError(f"cfg.json: unknown {', '.join(sorted(unknown))}; supported are {SUPPORTED}")
    _require_layout(tensors, {"encoder.weight": "fd", "encoder.bias": "f", "W_dec": "fd", "b_dec": "d"})
    settings = {"library": "sparsify", "subtracts": True, "k": [_typed(config, "k", int)]}
    ours = {"weight": "W_dec", "encoder": "encoder.weight", "bias": "encoder.bias", "decoder_bias": "b_dec"}
    return settings, {name: tensors[theirs] for name, theirs in ours.items()}


def _require_layout(tensors: Mapping[str, Tensor], axes: Mapping[str, str]) -> None:
    given = {name: tuple(value.shape) for name, value in tensors.items()}
    sizes = dict(zip("fd", given.get("W_dec", ()), strict=False))
    if 0 in sizes.values() or given != {name: tuple(map(sizes.get, letters)) for name, letters in axes.items()}:
        wanted = f"{dict(axes)} of f features and d = d_in, 1 or more"
        raise ValueError(f"weights: must be {wanted}, given {given}; supported are {SUPPORTED}")


def _major(version: object) -> int:
    first = str(version or "0").split(".")[0]
    return int(first) if first.isdigit() else 0
