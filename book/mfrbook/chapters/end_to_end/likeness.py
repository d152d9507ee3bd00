"""What end-to-end SAEs of several runs have in common (D5, Q3): a run of its own, that keeps the answers while weights come and go.

An archive has no room for dictionaries. What they are needed for is worked out here: likeness across seeds and objectives, and the
features to look at.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Literal, NamedTuple

from mfrbook.chapters.end_to_end import plan as end_to_end_plan
from mfrbook.chapters.end_to_end.sizes import equal, longer, smollm2, tuned
from mfrbook.experiments.planned import Collect, Planned, R, collected, collector, flat
from mfrbook.store.retired import build
from mfrbook.store.runs import Run, describe_config
from mfrbook.store.store import Store
from mfrlib.config import option, require, require_types
from mfrlib.environment import cache_folder

OTHERS: Mapping[str, ModuleType] = {"tuned": tuned, "longer": longer, "smollm2": smollm2, "equal": equal}
"""Runs of the archive that are compared besides a notebook's own, and the modules that plan them."""


@dataclass(frozen=True, kw_only=True)
class LikenessConfig:
    """The runs that are compared, and what they are made from."""

    runs: tuple[str, ...] = option((), "keys of the runs, seed by seed and condition by condition")
    profile: str = option("quick", "size of the runs", in_key=False)
    n_seeds: int | None = option(None, "number of seeds", in_key=False)
    values: str = option("{}", "further parameters of the runs, as JSON", in_key=False)
    of: Literal["notebook", "tuned", "longer", "smollm2", "equal"] = option(
        "notebook", "which runs: a notebook's own, or others of the archive", in_key=False
    )
    seed: int = option(0, "first seed", in_key=False)

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require_types(self)
        require(self.seed == 0, "seed", self.seed, "must be 0, for the seeds are the first n_seeds")


def configure(values: Mapping[str, Any], profile: str = "quick") -> LikenessConfig:
    """Return the config of a profile's runs; `n_seeds` and `values` as `mfrbook.chapters.end_to_end.plan.collect` takes them."""
    chosen = {"profile": profile, **values}
    if chosen["profile"] == "paper":  # as archived runs have it
        chosen["profile"] = "published"
    if chosen.get("runs") and "of" not in chosen:  # archived before there was `of`
        compared_by = {tuple(one.key for one in flat(_others(name))): name for name in OTHERS}
        chosen["of"] = compared_by.get(tuple(chosen["runs"]), "notebook")
    config = build(LikenessConfig, chosen)
    return replace(config, runs=tuple(one.key for one in flat(_runs(config))))


def run(config: LikenessConfig, store: Store | None = None, *, fresh: bool = False, progress: bool = True) -> Run:
    """Return the run of a config, from the store or computed; runs that are missing, or have no weights, are made first.

    Its results hold the `likeness` table; its arrays hold `first second`, the likeness above chance for every pair of seeds. Of a
    notebook's own runs and of those at equal L0 there is what `looking` makes, too.
    """
    planned = _runs(config)
    example = planned[0]["e2e"]

    def compute(folder: Path) -> Run:
        from mfrbook.chapters.end_to_end import comparison, looking, stability

        whole = Store(cache_folder(), renew=True)  # the archive's runs have no weights
        seeds = collected(planned, whole, progress=progress)
        picked = stability.comparable(seeds)
        results = {
            "likeness": comparison.likeness(seeds).to_dict("records"),
            "samples": seeds[0]["e2e"].results["samples"],
        }
        arrays = {
            f"{one} {other}": stability.across_seeds(
                seeds, (one, picked[one]), (other, picked[other]), above_chance=True
            )
            for one, other in comparison.across(seeds)
        }
        if config.of == "notebook":
            results |= looking.examples(example.config, seeds, picked)
        elif config.of == "equal":
            page, scores = looking.at_equal_l0(example.config, seeds)
            results, arrays = results | page, arrays | scores
        return Run("end-to-end-likeness", describe_config(config), example.data_id, results, arrays=arrays)

    return (store or Store()).compute("end-to-end-likeness", config, example.data_id, compute, fresh=fresh)


class Likeness(NamedTuple, Generic[R]):
    """The comparison of a profile's runs, and those of other runs of the archive by name; none of which there are not two seeds."""

    own: R
    others: Mapping[str, R]


def compared(profile: str, n_seeds: int | None, values: Mapping[str, Any], of: str = "notebook") -> Planned:
    """Return the comparison of the runs of a profile's size and these parameters, or of the archive's of another name."""
    known = {name: value for name, value in values.items() if value is not None}
    config = configure({"n_seeds": n_seeds, "values": json.dumps(known, sort_keys=True), "of": of}, profile)
    return Planned("end-to-end-likeness", config, _runs(config)[0]["e2e"].data_id)


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> Likeness[Planned]:
    """Return all comparisons; at other profiles than the archive's, only that of its own runs."""
    several = [name for name, module in OTHERS.items() if len(module.asked(profile, None, {})) > 1]
    return Likeness(
        compared(profile, n_seeds, values), {name: compared(profile, None, {}, of=name) for name in several}
    )


collect: Collect[Likeness[Run]] = collector(asked)
"""What `asked` plans, loaded or computed."""


def _runs(config: LikenessConfig) -> list[dict[str, Planned]]:
    if config.of != "notebook":
        return _others(config.of)
    return end_to_end_plan.asked(config.profile, config.n_seeds, json.loads(config.values))


def _others(name: str) -> list[dict[str, Planned]]:
    found: list[dict[str, Planned]] = OTHERS[name].asked("published", None, {})
    return found
