"""What the SAEs of a run find of the input's features *together* (Q11): a run of its own, that keeps the answer while weights go.

The paper counts what each SAE recovers (§5), but whoever trains several has all of them. SAEs that are copies of each other find
together what each of them finds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mfrbook.chapters.synthetic import runs as synthetic
from mfrbook.chapters.synthetic.questions import runs as questions
from mfrbook.experiments.planned import Collect, Planned, collector
from mfrbook.store.runs import Run, describe_config
from mfrbook.store.store import Store
from mfrlib.data.synthetic import SyntheticData
from mfrlib.environment import cache_folder
from mfrlib.method.similarity import best_match

configure = synthetic.configure


def run(
    config: synthetic.SyntheticConfig, store: Store | None = None, *, fresh: bool = False, progress: bool = True
) -> Run:
    """Return the run of a config, from the store or computed; the SAEs are trained first if their weights are missing.

    Its results are those of `recovered_together`; its array `best` `(sae, input feature)` has the cosine of each input
    feature with the nearest row of each SAE.
    """

    def compute(folder: Path) -> Run:
        made = synthetic.run(config, Store(cache_folder()), progress=progress)  # the archive's runs have no weights
        n_samples = config.steps * config.batch_size
        source = SyntheticData(config, config.seed, config.batch_size, n_samples, torch.device("cpu"))
        best = torch.stack([best_match(source.features, rows).cosine for rows in made.weights["weight"]])
        results = recovered_together(best) | {"samples": n_samples}
        return Run("coverage", describe_config(config), source.id, results, arrays={"best": best.numpy()})

    return (store or Store()).compute("coverage", config, synthetic.DATA_ID, compute, fresh=fresh)


def recovered_together(best: Tensor) -> dict[str, Any]:
    """Return the share of the input features that each SAE recovers, any of them, and every one.

    Parameters
    ----------
    best
        `(sae, input feature)`: cosine with the SAE's nearest row; from `synthetic.RECOVERED` the feature counts as recovered.
    """
    found = best >= synthetic.RECOVERED
    shares = {"each": found, "any": found.any(0), "every": found.all(0)}
    return {name: one.float().mean(-1).tolist() for name, one in shares.items()}


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[questions.Row[Planned]]:
    """Return the runs for every choice and seed of Q9 and Q10."""
    return [
        questions.Row(question, choice, config.n_saes, config.seed, Planned("coverage", config, synthetic.DATA_ID))
        for question, choice, config in questions.compared(profile, n_seeds, values)
    ]


collect: Collect[list[questions.Row[Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""
