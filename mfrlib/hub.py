"""TopK SAEs that `from_pretrained` and `push_to_hub` know: Hugging Face's mixin on `TopKSAE` (extra `hub`).

>>> from mfrlib.hub import HubTopKSAE
>>> sae = HubTopKSAE(n_saes=2, d_in=8, n_features=16, k=4)
>>> HubTopKSAE.of_stack(sae[0])
HubTopKSAE(n_saes=1, d_in=8, n_features=16, k=4)

Weights are safetensors; a repository without them is refused, since the mixin's other way is a pickle.
"""

import json
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError, safe_open

from mfrlib.config import ConfigError
from mfrlib.data.files import save_tensors
from mfrlib.models.sae import TopKSAE
from mfrlib.models.sae_files import SAEFileError

try:
    from huggingface_hub import PyTorchModelHubMixin
except ImportError as error:
    raise ImportError("the hub needs the package huggingface_hub: pip install 'mfrlib[hub]'") from error


class HubTopKSAE(TopKSAE, PyTorchModelHubMixin, library_name="mfrlib", tags=["sparse-autoencoder"]):
    """A `TopKSAE` with `save_pretrained(folder)`, `push_to_hub(name)` and `from_pretrained(folder or name)`.

    Parameters are those of `TopKSAE`; all of them but `generator` are written into `config.json`, and what is loaded into
    another configuration fails.
    """

    @classmethod
    def of_stack(cls, sae: TopKSAE) -> Self:
        """Return a copy of an SAE, or of a stack of them, for the hub."""
        return cls.of(sae.settings, {name: value.detach().clone() for name, value in sae.named_parameters()})

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Any:
        """Open a folder or a name of the hub, with the mixin's options; SAEFileError if no `TopKSAE` is there, or it is damaged."""
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **options)
        except (TypeError, AttributeError, ConfigError, json.JSONDecodeError, UnicodeDecodeError) as error:
            reason = f"config.json is missing, damaged, or not that of a TopKSAE ({error})"
            raise SAEFileError(f"{pretrained_model_name_or_path}: {reason}") from error

    def _save_pretrained(self, save_directory: Path) -> None:
        self._hub_mixin_config = self.settings  # the mixin keeps only arguments that JSON has as they were given
        weights = {name: value.contiguous() for name, value in self.state_dict().items()}
        save_tensors(weights, save_directory / "model.safetensors")

    # The mixin passes over missing weights unless told not to, and opens pickles where there is nothing else.

    @classmethod
    def _load_as_safetensor(cls, model: Any, model_file: str, map_location: str, strict: bool) -> Any:
        try:
            with safe_open(model_file, "pt") as file:
                model.to(file.get_tensor("bias").dtype)  # as saved: loading copies into the type that is there
            return super()._load_as_safetensor(model, model_file, map_location, True)
        except (RuntimeError, SafetensorError) as error:
            raise SAEFileError(f"{model_file}: {error}") from error

    @classmethod
    def _load_as_pickle(cls, model: Any, model_file: str, map_location: str, strict: bool) -> Any:
        raise SAEFileError(f"{model_file}: pickled weights are not opened; save_pretrained writes model.safetensors")
