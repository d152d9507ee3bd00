"""Open what `sae.save(folder)` wrote."""

import os

import torch

from mfrlib.environment import require_device
from mfrlib.models import sae_files
from mfrlib.models.relu_sae import ReLUSAE
from mfrlib.models.sae import TopKSAE

_KINDS: dict[str, type[TopKSAE] | type[ReLUSAE]] = {"TopKSAE": TopKSAE, "ReLUSAE": ReLUSAE}


def load(folder: str | os.PathLike[str], device: str | torch.device = "cpu") -> TopKSAE | ReLUSAE:
    """Open the stack of SAEs that `sae.save(folder)` wrote, with settings and floating-point type as saved.

    Raises
    ------
    SAEFileError
        If there is none, it is of another format or version, or a file is damaged or changed; ConfigError for a device that is not there.
    """
    require_device(device)
    kind, settings, tensors = sae_files.read(folder)
    if kind not in _KINDS:
        raise sae_files.SAEFileError(f"folder {folder}: an SAE of kind {kind!r}, this mfrlib knows {', '.join(_KINDS)}")
    try:
        return _KINDS[kind].of(settings, tensors).to(device)
    except ValueError as error:
        raise sae_files.SAEFileError(f"folder {folder}: {error}") from error
