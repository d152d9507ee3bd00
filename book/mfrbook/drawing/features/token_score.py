"""How well a token alone predicts where a feature is active: a score that needs no large language model to explain features."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csc_matrix, csr_matrix, vstack
from scipy.stats import rankdata
from torch import Tensor

from mfrbook.drawing.tables import Interval, with_interval
from mfrlib.language_models.language_model import LanguageModel
from mfrlib.models.stack import SAEStack

SHARED = 0.9
"""Cosine with the nearest feature of other SAEs from which on a feature counts as shared."""
BLOCK = 2048
"""Positions that are encoded at once."""
LEAST = 10
"""Activations on the second half of the text that a feature needs to have a score."""


class Read(NamedTuple):
    """Positions of a text: the token at each, `(position,)`, and the activation there, `(position, d_in)`."""

    tokens: np.ndarray
    activations: Tensor


@torch.no_grad()
def read(model: LanguageModel, hook: str, batches: Iterable[Tensor], *, skip: int = 0) -> Read:
    """Return the positions of sequences of tokens `(sequence, position)`, but for the first `skip` of each, which SAEs do not see."""
    both = [
        (one[:, skip:].flatten().cpu(), model.activations(one, [hook])[hook][:, skip:].flatten(0, 1)) for one in batches
    ]
    tokens, activations = (torch.cat(part) for part in zip(*both, strict=True))
    return Read(tokens.numpy(), activations)


@torch.no_grad()
def scores(stack: SAEStack, sae: int, text: Read) -> np.ndarray:
    """Return the `token_auc` of each feature of one SAE of a stack, `(feature,)`."""
    one = stack[sae]
    active = [csr_matrix(one.encode(rows)[0].cpu().numpy() != 0) for rows in text.activations.split(BLOCK)]
    return token_auc(text.tokens, vstack(active))


def token_auc(tokens: np.ndarray, active: csr_matrix) -> np.ndarray:
    """Return how well the token at a position predicts whether each feature is active there, float32 `(feature,)`.

    The score of a token is the share of its occurrences in the first half of the positions on which the feature is active; the area
    under the ROC curve (AUC) is taken on the second half. A half is guessing, 1 is a feature of single tokens. NaN where a feature is
    active on fewer than `LEAST` positions of the second half, or on all of them.

    Parameters
    ----------
    tokens : ndarray (position,)
    active : sparse matrix (position, feature)
        Where each feature is active.
    """
    half = len(tokens) // 2
    before, later = tokens[:half], tokens[half:]
    vocabulary = int(tokens.max()) + 1
    occurs = csr_matrix((np.ones(half, dtype=np.float32), (before, np.arange(half))), shape=(vocabulary, half))
    shares = (occurs @ active[:half].astype(np.float32)).multiply(
        1 / np.bincount(before, minlength=vocabulary).clip(1)[:, None]
    )
    shares, seen = csc_matrix(shares), csc_matrix(active[half:])
    counts = np.diff(seen.indptr)
    found = np.full(active.shape[1], np.nan, dtype=np.float32)
    for feature in np.flatnonzero((counts >= LEAST) & (counts < len(later))):
        ranks = rankdata(shares[:, [feature]].toarray()[:, 0][later])
        n = int(counts[feature])
        above = ranks[seen.indices[seen.indptr[feature] : seen.indptr[feature + 1]]].sum() - n * (n + 1) / 2
        found[feature] = above / (n * (len(later) - n))
    return found


def known(auc: np.ndarray) -> np.ndarray:
    """Return the scores of those features that have one."""
    return auc[~np.isnan(auc)]


def row(several: Sequence[np.ndarray]) -> dict[str, Interval]:
    """Return a table's cells on the known scores of some features, one array a seed: means and 95 % intervals over seeds."""
    return {
        "active often enough for a score": with_interval([len(one) for one in several]),
        "AUC, median": with_interval([float(np.median(one)) for one in several]),
        "AUC above 0.95, share": with_interval([float((one > 0.95).mean()) for one in several]),
    }
