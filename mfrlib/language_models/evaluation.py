"""What a language model loses when an SAE's output takes an activation's place (paper §2.2, §4.1)."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mfrlib.config import require
from mfrlib.data.text.sequences import Sequences
from mfrlib.language_models.language_model import LanguageModel, next_token_loss
from mfrlib.models.stack import SAEStack

REFERENCES = ("ce_unmodified", "ce_zero", "ce_mean")
"""Losses of the model as it is, and with an activation replaced by zeros and by its mean."""


@torch.no_grad()
def insertion_losses(
    model: LanguageModel, sae: SAEStack, sequences: Sequences, hook: str, mean: Tensor, *,
    skip: int, batch_size: int = 8, known: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return the cross-entropy of each sequence, in nats per token, with an activation as it is and replaced.

    Every replacement leaves the first `skip` positions as they are (the beginning-of-sequence token, which the SAEs
    never saw), and the loss counts what is predicted from the others.

    Parameters
    ----------
    model, sae, sequences, hook
        A stack of SAEs, of ours or from `load_foreign`, on the activations at a hook of the model.
    mean : Tensor (d_in,)
        What mean ablation puts in their place.
    skip : int
    batch_size : int
        Sequences in a forward pass.
    known : mapping of ndarray, optional
        `ce_unmodified`, `ce_zero` and `ce_mean` of an earlier call on the same sequences, hook and mean. They do not
        depend on the SAEs, and are not computed again.

    Returns
    -------
    dict of ndarray
        `ce` (sae, sequence), each SAE's output inserted; `ce_unmodified`, `ce_zero`, `ce_mean` (sequence,).

    Raises
    ------
    LanguageModelError or ConfigError
        If the SAEs or `mean` are not of the width at the hook, or `skip` leaves nothing to predict.
    """
    model.require_width(hook, d_in := sae.weight.shape[2])
    require(0 <= skip < sequences.length - 1, "skip", skip, f"must be from 0 to {sequences.length - 2}")
    require(mean.shape == (d_in,), "mean", tuple(mean.shape), f"must be of shape ({d_in},)")
    # Filled in place: a small result kept from every pass would hold on to the large block that it was cut from.
    new = () if known else REFERENCES
    losses = {name: known[name] if known else np.empty(len(sequences), dtype=np.float32) for name in REFERENCES}
    losses["ce"] = np.empty((len(sae.weight), len(sequences)), dtype=np.float32)
    rows = [losses[name] for name in new] + list(losses["ce"])
    done = 0
    for tokens in sequences.iterate(batch_size):
        tokens = tokens.to(model.device)
        whole = model.activations(tokens, [hook])[hook]
        for row, kept in zip(rows, _replacements(sae, whole[:, skip:], mean.to(whole), new), strict=True):
            changed = {} if kept is None else {hook: torch.cat([whole[:, :skip], kept], dim=1)}
            logits = model.logits_with(tokens, changed)
            row[done : done + len(tokens)] = next_token_loss(logits[:, skip:], tokens[:, skip:]).cpu().numpy()
        done += len(tokens)
    return losses


def _replacements(sae: SAEStack, x: Tensor, mean: Tensor, references: Sequence[str]) -> Iterator[Tensor | None]:
    if references:
        yield None
        yield torch.zeros_like(x)
        yield mean.expand_as(x)
    yield from (one.to(x).view_as(x) for one in sae(x.flatten(0, 1).to(sae.weight)).reconstruction)


def loss_recovered(inserted: float, unmodified: float, ablated: float) -> float:
    r"""Return the share of an ablation's damage that an SAE's output undoes: 1 is the model as it is (paper §2.2).

    .. math:: \frac{\text{CE}_\text{ablated} - \text{CE}_\text{inserted}}{\text{CE}_\text{ablated} - \text{CE}}
    """
    return (ablated - inserted) / (ablated - unmodified)
