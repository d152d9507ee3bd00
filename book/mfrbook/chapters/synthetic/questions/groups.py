"""Q1: do independent groups of SAEs find the same features, more under MFR than without, and the input's features?

The penalty makes the members of a group agree; whether they agree on something that is in the data shows between groups
that never saw each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mfrbook.chapters.synthetic import readings
from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.experiments.planned import Collect, Planned, Profile, Profiles, R, collector, given, seeds
from mfrbook.store.retired import build
from mfrbook.store.runs import Run, describe_config
from mfrbook.store.store import Store
from mfrlib.config import option, require
from mfrlib.data.synthetic import SyntheticData
from mfrlib.method.similarity import best_match, chance_level, matched_cosine
from mfrlib.training.loop import train
from mfrlib.training.parallel import device_of

APART = 100_003  # between the seeds of the groups' weights, beyond any seed of the data


@dataclass(frozen=True, kw_only=True)
class GroupsConfig(synthetic.SyntheticConfig):
    """Groups of `n_saes` SAEs each, trained apart on the same samples."""

    n_replicas: int = option(2, "independent groups (Q1)")

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        require(self.n_replicas >= 2, "n_replicas", self.n_replicas, "agreement between groups needs 2 or more")
        require(self.n_saes >= 2, "n_saes", self.n_saes, "agreement within groups needs 2 or more")


PROFILES = Profiles(
    smoke=Profile({"steps": 20, "batch_size": 100}, 1),
    quick=Profile({"steps": 150, "batch_size": 500, "log_every": 50}, 3),
    published=Profile({"steps": 10_000, "batch_size": 2000, "log_every": 500}, 3),
)

# Controls of no less compute: at these sizes the penalty costs less than half a baseline's step; a group of two twice as
# wide has the products of a group of four.
CONDITIONS: Mapping[str, Mapping[str, Any]] = {
    "baseline": {},
    "baseline, longer": {"steps": 1.5},  # of the others' steps
    "baseline, 2 wider SAEs": {"n_saes": 2, "n_features": 2 * readings.SIZE["n_features"]},
    "penalty": {"alpha": 3.0},
    "penalty, Hungarian": {"alpha": 3.0, "matching": "hungarian"},
    "penalty as printed": {"alpha": 3.0, "reduction": "sum"},
    "centred data": {"center": True},
}


class Row(NamedTuple, Generic[R]):
    """One run."""

    condition: str
    seed: int
    run: R


def configure(values: Mapping[str, Any], profile: str = "quick") -> GroupsConfig:
    """Return the config of a profile's size, with further fields changed."""
    return build(GroupsConfig, {**readings.SIZE, "n_saes": 4, **PROFILES[profile].fields, **values})


def run(config: GroupsConfig, store: Store | None = None, *, fresh: bool = False, progress: bool = True) -> Run:
    """Return the run of a config, from the store or computed.

    Its arrays are `(group, sae, feature)`: `within_max`, `between_max`: cosine with the nearest feature of another SAE, mean
    over the others of the group and over those of other groups; `input_max`: with the nearest input feature; `best`
    `(group, sae, input feature)`: that of each input feature with the nearest feature of the SAE.
    """

    def compute(folder: Path) -> Run:
        n_samples, device = config.steps * config.batch_size, device_of(config.device)
        source = SyntheticData(config, config.seed, config.batch_size, n_samples, device)
        groups, metrics, measured, events = [], [], [], []
        for number in range(config.n_replicas):
            own = replace(config, seed=config.seed + number * APART)
            trained = train(own, source, folder=folder / f"group-{number}", progress=progress)
            groups.append(trained.sae.weight.detach().cpu())
            measured.append(synthetic.evaluate(trained.sae, source, config.reduction)[0])
            metrics += [{**record, "group": number} for record in trained.metrics]
            events += [[number, *event] for event in trained.events]
        alike, arrays = agreement(groups, source.features)
        results = alike | _summary(measured) | {"samples": n_samples, "events": events}
        return Run("groups", describe_config(config), source.id, results, metrics, arrays)

    return (store or Store()).compute("groups", config, synthetic.DATA_ID, compute, fresh=fresh)


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[Row[Planned]]:
    """Return the runs of every condition and seed."""
    own, found = given(values, readings.SHARED), []
    plain = configure(own, profile)
    for seed in seeds(n_seeds, PROFILES[profile]):
        for condition, changes in CONDITIONS.items():
            steps = round(plain.steps * changes.get("steps", 1))
            config = configure({**own, **changes, "steps": steps, "seed": seed}, profile)
            found.append(Row(condition, seed, Planned("groups", config, synthetic.DATA_ID)))
    return found


collect: Collect[list[Row[Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""


def agreement(groups: Sequence[Tensor], features: Tensor) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the similarity of SAEs of one group and of different groups, and what random dictionaries of the size score.

    Parameters
    ----------
    groups : sequence of Tensor (sae, feature, d_in)
    features : Tensor (feature, d_in)
        The true features.

    Returns
    -------
    results : dict
        MMCS and matched cosine, each `within`, `between` and by `chance`, as means over ordered pairs of SAEs.
    arrays : dict of ndarray (group, sae, feature)
        Cosine of each feature with its nearest true feature (`input_max`), of each true feature with its nearest feature
        (`best`), and of each feature with its nearest ones in the other SAEs, `within_max` and `between_max`.
    """
    n_features, d_in = groups[0].shape[1:]
    saes = [(number, sae) for number, group in enumerate(groups) for sae in group]
    found = {"mmcs_chance": chance_level(n_features, n_features, d_in)}
    found["matched_chance"] = chance_level(n_features, n_features, d_in, matched=True)
    arrays = {
        "input_max": torch.stack([best_match(sae, features).cosine for _, sae in saes]),
        "best": torch.stack([best_match(features, sae).cosine for _, sae in saes]),
    }
    for where in ("within", "between"):
        nearest, matched = [], []
        for number, sae in saes:
            others = [it for other, it in saes if (other == number) == (where == "within") and it is not sae]
            nearest.append(torch.stack([best_match(sae, other).cosine for other in others]).mean(0))
            matched += [matched_cosine(sae, other).item() for other in others]
        arrays[f"{where}_max"] = torch.stack(nearest)
        found |= {f"mmcs_{where}": arrays[f"{where}_max"].mean().item(), f"matched_{where}": float(np.mean(matched))}
    return found, {name: one.unflatten(0, (len(groups), -1)).numpy() for name, one in arrays.items()}


def _summary(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean over all SAEs, and what the SAE has that a user would pick: the one of least held-out loss."""
    names = ("loss", "fvu", "mmcs_input", "matched_input", "recovered", "unique_input", "coherence", "dead", "cluster")
    every = {name: np.concatenate([np.asarray(one[name], float) for one in measured]) for name in names}
    best = int(every["loss"].argmin())
    return {name: float(values.mean()) for name, values in every.items()} | {
        f"best_{name}": float(values[best]) for name, values in every.items()
    }
