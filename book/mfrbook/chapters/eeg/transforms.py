"""What SAEs on EEG are up against: a fixed cosine transform with its best k coefficients, and a better search in a learned dictionary (Q17)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor

from mfrbook.chapters.eeg import runs as eeg
from mfrbook.experiments.archived import default_data, not_here
from mfrbook.experiments.planned import Collect, Planned, Profile, Profiles, collector, given
from mfrbook.store.retired import build
from mfrbook.store.runs import Run, describe_config
from mfrbook.store.stacks import stack_of
from mfrbook.store.store import Store
from mfrlib.config import option, require
from mfrlib.environment import cache_folder
from mfrlib.method import evaluation

BLOCK = 512  # windows searched at once


@dataclass(frozen=True, kw_only=True)
class TransformsConfig(eeg.EEGConfig):
    """The run without a penalty whose dictionaries are searched, and how many held-out windows are."""

    searched: int = option(
        4096, "held-out windows for which each dictionary is searched, spread evenly; 0: only the cosine transform"
    )

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        require(self.searched >= 0, "searched", self.searched, "must be 0 or more")
        require(
            self.channels == "single",
            "channels",
            self.channels,
            "must be single: the cosines are of one channel's time",
        )


PROFILES = Profiles(
    smoke=Profile({**eeg.PROFILES["smoke"].fields, "searched": 64}, 1),
    quick=Profile({**eeg.PROFILES["quick"].fields, "searched": 512}, 1),
    published=Profile(eeg.PROFILES["published"].fields, 1),
)


def configure(values: Mapping[str, Any], profile: str = "quick") -> TransformsConfig:
    """Return the config of a profile's size, with further fields changed; the first seed's run describes its features."""
    usual = {"data": default_data(profile), "describe": values.get("seed", 0) == 0}
    return build(TransformsConfig, {**usual, **PROFILES[profile].fields, **values})


def baseline(config: TransformsConfig) -> eeg.EEGConfig:
    """Return the config of the run whose dictionaries are searched."""
    return eeg.EEGConfig(**{field.name: getattr(config, field.name) for field in fields(eeg.EEGConfig)})


def run(config: TransformsConfig, store: Store | None = None, *, fresh: bool = False, progress: bool = True) -> Run:
    """Return the run of a config, from the store or computed; its SAEs are trained first if their weights are missing.

    Its results, a value for each k: `dct`, the mean squared error of held-out windows from their k largest coefficients in an
    orthonormal cosine transform; and on the windows that are searched, `dct_searched`, `sae`, the SAE's own error, and `omp`,
    that of orthogonal matching pursuit with k atoms of the same dictionary.
    """
    identity = eeg.data_id(config)

    def compute(folder: Path) -> Run:
        held_out = eeg.open_split(config, "test")
        ks = config.ks
        blocks = [cosine_errors(x, ks) * len(x) for x in held_out.iterate()]
        results: dict[str, Any] = {"k": list(ks), "dct": (torch.stack(blocks).sum(0) / held_out.n_windows).tolist()}
        if config.searched:
            made = eeg.run(
                baseline(config), Store(cache_folder()), progress=progress
            )  # the archive's runs have no weights
            sae = stack_of(config, made)
            chosen = np.unique(np.linspace(0, held_out.n_windows - 1, config.searched).astype(np.int64))
            x = held_out.take(chosen)
            results |= {
                "dct_searched": cosine_errors(x, ks).tolist(),
                "sae": evaluation.evaluate(sae, x).results["loss"],
                "omp": [pursuit_error(x, one.detach(), k) for one, k in zip(sae.dictionary, ks, strict=True)],
            }
        results |= {"windows": held_out.n_windows, "searched": config.searched, "samples": 0, "d_in": held_out.d_in}
        about = describe_config(config) | {"data": Path(config.data).name}
        return Run("eeg-transforms", about, identity, results, provenance={"data_hash": held_out.hash})

    return (store or Store()).compute("eeg-transforms", config, identity, compute, fresh=fresh, absent=not_here(config))


def cosine_errors(x: Tensor, ks: tuple[int, ...]) -> Tensor:
    """Return the mean squared error `(k,)` of windows `(n, d)` from their k largest coefficients of the orthonormal DCT-II."""
    energy = torch.from_numpy(dct(x.double().numpy(), norm="ortho")).square().sort(1, descending=True).values
    left = energy.sum(1, keepdim=True) - energy.cumsum(1)
    return torch.stack([left[:, k - 1].mean() / x.shape[1] for k in ks])


@torch.no_grad()
def pursuit_error(x: Tensor, dictionary: Tensor, k: int) -> float:
    """Return the mean squared error of windows `(n, d)` from k atoms `(atom, d)` of norm 1 each, by orthogonal matching pursuit.

    Atoms are taken one by one, each the one most alike to what is left, and all coefficients are fitted anew by least squares
    (Pati et al. 1993).
    """
    total = 0.0
    for part in x.double().split(BLOCK):
        atoms, left = dictionary.double(), part
        basis = part.new_zeros(
            len(part), k, part.shape[1]
        )  # orthonormal, of the atoms so far: what is left is orthogonal to it
        for step in range(k):
            best = (left @ atoms.T).abs().argmax(1)
            new = atoms[best]
            for _ in range(2):  # twice is enough for orthogonality in floating point
                along = torch.einsum("nkd,nd->nk", basis[:, :step], new)
                new = new - torch.einsum("nk,nkd->nd", along, basis[:, :step])
            norm = new.norm(dim=1, keepdim=True)
            basis[:, step] = torch.where(norm > 1e-9, new / norm.clamp(min=1e-9), torch.zeros_like(new))
            left = left - (left * basis[:, step]).sum(1, keepdim=True) * basis[:, step]
        total += float(left.square().sum())
    return total / x.numel()


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[dict[str, Planned]]:
    """Return the run of the cosine transform alone, `fixed`, and that of the search besides, `searched`; of joint vectors, neither."""
    if values.get("channels") == "joint":
        return []
    shared = given(values, ("data", "subjects", "readable_only", "k"))
    if isinstance(k := shared.get("k"), list | tuple):
        shared["n_saes"] = len(k)
    chosen = {"fixed": configure({**shared, "searched": 0}, profile), "searched": configure(shared, profile)}
    return [{name: Planned("eeg-transforms", config, eeg.data_id(config)) for name, config in chosen.items()}]


collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""


def cosines(found: Sequence[Mapping[str, Run]]) -> dict[int, float]:
    """Return, for each k, the error that the k largest coefficients of the cosine transform leave; of joint vectors, nothing."""
    return {k: error for one in found for k, error in zip(*map(one["fixed"].results.get, ("k", "dct")), strict=True)}
