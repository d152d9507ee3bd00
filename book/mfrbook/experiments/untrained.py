"""Language models with random weights, whole or but for the token embedding."""

from typing import Any, Literal, get_args

import torch

from mfrlib.config import require
from mfrlib.language_models.language_model import LanguageModel
from mfrlib.language_models.pretrained.loading import load_pretrained
from mfrlib.language_models.pretrained.names import identity_of

Weights = Literal["trained", "untrained-block", "untrained"]


def load(name: str, weights: Weights, seed: int = 0, device: str = "cpu") -> LanguageModel:
    """Load a model, or one of its architecture.

    Parameters
    ----------
    name : str
        As `LanguageModel.load` takes it.
    weights : {"trained", "untrained-block", "untrained"}
        `untrained-block`: what the released code of MFR reads activations from (R14): blocks with random weights
        from the model's configuration, no position embedding, and only the token embedding pretrained. Rotary
        positions have no weights and stay. `untrained`: all weights random.
    seed : int
        Of the random weights.
    device : str
    """
    require(weights in get_args(Weights), "weights", weights, f"must be one of {', '.join(get_args(Weights))}")
    if weights == "trained":
        return LanguageModel.load(name, device=device)
    found, identity = load_pretrained(name), identity_of(name)
    fresh = _untrained(found.model, seed, keep_embedding=weights == "untrained-block")
    its = identity._replace(name=f"{identity.name}:{weights}:{seed}")
    return LanguageModel(fresh.to(device), found.tokenizer, f"{found.id}:{weights}", its)


def _untrained(model: Any, seed: int, keep_embedding: bool) -> Any:
    """Return a model of the same configuration with random weights; with the same token embedding, and no positions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # transformers draws from the global generator
        fresh = type(model)(model.config).float().eval()
    if keep_embedding:
        with torch.no_grad():
            fresh.get_input_embeddings().weight.copy_(model.get_input_embeddings().weight)
            positions = getattr(fresh.base_model, "wpe", None)
            if positions is not None:
                positions.weight.zero_()
    return fresh
