"""The runs that the end-to-end chapter compares: each objective, at every sparsity of its front."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from mfrbook.chapters.end_to_end.runs import PROFILES, EndToEndConfig, configure, data_id
from mfrbook.experiments.model_and_text import sizes_of
from mfrbook.experiments.planned import Collect, Planned, collector, given, require_penalty, seeds
from mfrbook.store.runs import Run
from mfrlib.config import require
from mfrlib.language_models.end_to_end import Kind

NAMES = (*(field.name for field in fields(EndToEndConfig)), "local_sparsity")
"""The parameters that the chapter's runs know."""
# What is compared: the objective, and whether MFR's penalty pulls the dictionaries of a stack together.
CONDITIONS: Mapping[str, tuple[Kind, bool]] = {
    "local": ("local", False), "e2e": ("e2e", False), "downstream": ("downstream", False), "e2e-mfr": ("e2e", True),
}  # fmt: skip


# The front: λ of each SAE of a stack, by profile and objective; k where SAEs have one.
SPARSITIES: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "smoke": {"local": (1.0, 6.0), "e2e": (0.5, 2.0), "downstream": (3.0, 10.0)},
    "quick": {"local": (1.0, 3.0, 6.0, 12.0, 24.0), "e2e": (0.5, 2.0), "downstream": (3.0, 10.0)},
    "published": {"local": (1.0, 3.0, 5.0, 7.0, 10.0), "e2e": (0.5, 2.0, 6.0), "downstream": (2.0, 5.0, 12.0)},
    "paper": {"local": (0.8, 4.0, 6.0, 8.0, 10.0), "e2e": (0.5, 1.5, 3.0, 5.0, 10.0), "downstream": (10.0, 25.0, 50.0)},
}


KS: Mapping[str, tuple[int, ...]] = {
    "smoke": (4, 8), "quick": (8, 24), "published": (8, 24, 64), "paper": (8, 16, 32, 64, 128),
}  # fmt: skip


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> list[dict[str, Planned]]:
    """Return, for each seed, the runs of every objective, and of end-to-end with MFR's penalty, at a profile's size."""
    conditions(profile, values)  # refuses impossible values, and an unknown profile, before anything runs
    return [
        {
            name: Planned("end-to-end", config, data_id(config))
            for name, config in conditions(profile, {**values, "seed": seed}).items()
        }
        for seed in seeds(n_seeds, PROFILES[profile])
    ]


collect: Collect[list[dict[str, Run]]] = collector(asked)
"""What `asked` plans, loaded or computed."""


def conditions(profile: str, values: Mapping[str, Any]) -> dict[str, EndToEndConfig]:
    """Return the config of every condition.

    Parameters
    ----------
    values
        Fields of the config; of these `alpha` is for the condition with the penalty, `sparsity` for those that go through
        the model, and `local_sparsity` for the local one. `k` is for all, where `sae` is `topk`.
    """
    shared = given(values, NAMES)
    alpha, local = shared.pop("alpha", "calibrate"), shared.pop("local_sparsity", None)
    sparsity, k = shared.pop("sparsity", None), shared.pop("k", None)
    require_penalty(alpha)
    base = configure(shared, profile)
    for name, value, sae in (("k", k, "topk"), ("sparsity", sparsity, "relu"), ("local_sparsity", local, "relu")):
        require(value is None or base.sae == sae, name, value, f"is for sae={sae}, and sae is {base.sae}")
        require(value != [], name, value, "must be one or more")
    size, found = sizes_of(profile, base.model), {}
    for name, (objective, penalised) in CONDITIONS.items():
        axis: Sequence[Any]
        changes: dict[str, Any]
        if base.sae == "topk":
            axis = _as_list(k) or KS[size]
            changes = {"k": axis, "activation": "relu"}
        else:
            axis = _as_list(local if objective == "local" else sparsity) or SPARSITIES[size][objective]
            changes = {"sparsity": axis}
        changes |= {"n_saes": len(axis), "objective": objective} | ({"alpha": alpha} if penalised else {})
        found[name] = configure({**shared, **changes}, profile)
    return found


def _as_list(value: Any) -> list[Any] | None:
    return None if value is None else list(value) if isinstance(value, list | tuple) else [value]
