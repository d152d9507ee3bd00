"""Many starts on one data set, followed step by step: a stack of SAEs without a penalty, which do not see each other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from mfrlib.method.reinit import inactivity
from mfrlib.method.similarity import best_match
from mfrlib.models.sae import TopKSAE
from mfrlib.training.loop import reconstruct, train

ROWS = 100  # of each batch, whose pre-activations the printed statistic is taken of


@dataclass(frozen=True, kw_only=True)
class StartsConfig(synthetic.SyntheticConfig):
    """Starts that share their data: `seed` is that of the weights."""

    n_saes: int = option(10, "starts in one stack, no two of which see each other")
    data_seed: int = option(1000, "seed of the data, the same for every seed of the weights")

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        super().__post_init__()
        require(self.data_seed >= 0, "data_seed", self.data_seed, "must be 0 or more")
        require(self.alpha == 0, "alpha", self.alpha, "must be 0: a penalty would tie the starts together")
        require(self.reinit == "off", "reinit", self.reinit, "must be off: each start is followed to its end")


PROFILES = Profiles(
    smoke=Profile({"steps": 20, "batch_size": 100, "n_saes": 4}, 1),
    quick=Profile({"steps": 200, "batch_size": 500}, 1),
    published=Profile({"steps": 1000, "batch_size": 2000}, 10),
)
DATA = ("as-released", "as-printed")  # presets

# R10: the statistic on activation rates in two powers, as printed on pre-activations; and two that a reader may think of.
METRICS = ("rates, power 1", "rates, cube", "pre-activations, power 1", "largest rate", "share never active")


class Row(NamedTuple, Generic[R]):
    """The starts of one stack."""

    data: str
    seed: int
    run: R


def configure(values: Mapping[str, Any], profile: str = "quick", preset: str = "as-released") -> StartsConfig:
    """Return the config of a profile's size on the data of a preset, with further fields changed.

    The bank of a released preset holds the paper's number of supports a group at every size.
    """
    fields = {**synthetic.PRESETS[preset], **PROFILES[profile].fields, "log_every": 100, **values}
    if fields.get("support_rows") and "support_rows" not in values:
        fields["support_rows"] = readings.support_rows(fields["steps"], fields["batch_size"])
    return build(StartsConfig, fields)


def run(config: StartsConfig, store: Store | None = None, *, fresh: bool = False, progress: bool = True) -> Run:
    """Return the run of a config, from the store or computed.

    Its results, a value for each start: `largest_rate` on held-out samples, `cluster` (features alike in another start and
    unlike every true feature, mean over the other starts), `mmcs_input`, `fvu`. Its array `statistics` `(metric, step, sae)`,
    in the order of `METRICS`, is of each step's batch before its update.
    """

    def compute(folder: Path) -> Run:
        n_samples = config.steps * config.batch_size
        source = SyntheticData(config, config.data_seed, config.batch_size, n_samples)
        found: list[np.ndarray] = []
        # Without a folder, so that no step is resumed whose statistics are gone.
        trained = train(config, source, objective=_watched(config, found.append), progress=progress)
        measured, arrays = synthetic.evaluate(trained.sae, source, config.reduction)
        results = {
            "largest_rate": arrays["rate"].max(1).tolist(),
            "cluster": _clusters(trained.sae.weight.detach(), torch.from_numpy(arrays["input_max"])),
            "mmcs_input": measured["mmcs_input"],
            "fvu": measured["fvu"],
            "samples": n_samples,
        }
        statistics = np.stack(found, axis=1).astype(np.float16)
        return Run("starts", describe_config(config), source.id, results, trained.metrics, {"statistics": statistics})

    return (store or Store()).compute("starts", config, synthetic.DATA_ID, compute, fresh=fresh)


def _watched(
    config: StartsConfig, keep: Callable[[np.ndarray], None]
) -> Callable[[TopKSAE, Tensor], tuple[Tensor, Any]]:
    """Return the objective of reconstruction that hands on every metric of each step, `(metric, sae)`."""

    def objective(sae: TopKSAE, x: Tensor) -> tuple[Tensor, Any]:
        loss, output = reconstruct(sae, x, config.reduction)
        with torch.no_grad():
            counts, n = sae.usage(output)
            keep(statistics(counts / n, sae.k, torch.einsum("bd,sfd->sbf", x[:ROWS], sae.weight)).numpy())
        return loss, output

    return objective


def statistics(rates: Tensor, k: tuple[int, ...], pre_activations: Tensor) -> Tensor:
    """Return every metric of `METRICS`, `(metric, sae)`, of rates `(sae, feature)` and pre-activations `(sae, row, feature)`."""
    even = k[0] / rates.shape[-1]
    return torch.stack(
        [
            inactivity(rates, k),
            inactivity(rates, k, 3),
            ((pre_activations - even).abs() / even).mean((1, 2)),
            rates.max(1).values,
            (rates == 0).float().mean(1),
        ]
    )


def _clusters(weight: Tensor, nearest_true: Tensor) -> list[float]:
    unlike, n = nearest_true < synthetic.UNLIKE_INPUT, len(weight)
    pairs = [
        [best_match(weight[i], weight[j]).cosine > synthetic.ALIKE_ACROSS for j in range(n) if j != i] for i in range(n)
    ]
    return [float((torch.stack(alike) & unlike[i]).sum(1).float().mean()) for i, alike in enumerate(pairs)]


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[Row[Planned]]:
    """Return the runs of both data sets: a row for each stack of starts."""
    own, chosen = given(values, readings.SHARED), seeds(n_seeds, PROFILES[profile])
    configs = [(data, configure({**own, "seed": seed}, profile, data)) for data in DATA for seed in chosen]
    return [Row(data, config.seed, Planned("starts", config, synthetic.DATA_ID)) for data, config in configs]


collect: Collect[list[Row[Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""
