"""What end-to-end SAEs of several runs have in common (D5, Q3): a run of its own, that keeps the answers while weights come and go.

An archive has no room for dictionaries. What they are needed for is worked out here: likeness across seeds and objectives,
features that only one objective finds, and the page of features.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple

from mfrbook.chapters.end_to_end import plan as end_to_end_plan
from mfrbook.chapters.end_to_end import rates
from mfrbook.chapters.end_to_end import runs as end_to_end
from mfrbook.chapters.end_to_end.sizes import longer, smollm2, tuned
from mfrbook.experiments.planned import Collect, Planned, R, collected, collector, flat
from mfrbook.store.retired import build
from mfrbook.store.runs import Run, describe_config
from mfrbook.store.store import Store
from mfrlib.config import option, require, require_types
from mfrlib.environment import cache_folder

SHOWN = {"n_features": 12, "n_passages": 3}  # the book's page stays light; features.page.write makes larger ones


@dataclass(frozen=True, kw_only=True)
class LikenessConfig:
    """The runs that are compared, and what they are made from."""

    runs: tuple[str, ...] = option((), "keys of the runs, seed by seed and condition by condition")
    profile: str = option("quick", "size of the runs", in_key=False)
    n_seeds: int | None = option(None, "number of seeds", in_key=False)
    values: str = option("{}", "further parameters of the runs, as JSON", in_key=False)
    real: bool = option(False, "whether they are the archive's runs on SmolLM2", in_key=False)
    suited: int = option(
        0,
        "times the tokens of the archive's runs at learning rates that suit each objective; 0: other runs",
        in_key=False,
    )
    seed: int = option(0, "first seed", in_key=False)

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        require_types(self)
        require(self.seed == 0, "seed", self.seed, "must be 0, for the seeds are the first n_seeds")
        sizes = (0, *rates.CHOSEN)
        require(
            self.suited in sizes, "suited", self.suited, f"must be {', '.join(map(str, sizes[:-1]))} or {sizes[-1]}"
        )
        require(not self.suited or self.n_seeds is not None, "n_seeds", self.n_seeds, "must be given with suited")


def configure(values: Mapping[str, Any], profile: str = "quick") -> LikenessConfig:
    """Return the config of a profile's runs; `n_seeds` and `values` as `mfrbook.chapters.end_to_end.plan.collect` takes them."""
    chosen = {"profile": profile, **values}
    if chosen["profile"] == "paper":  # as archived runs have it
        chosen["profile"] = "published"
    config = build(LikenessConfig, chosen)
    return replace(config, runs=tuple(one.key for one in flat(_runs(config))))


def run(config: LikenessConfig, store: Store | None = None, *, fresh: bool = False, progress: bool = True) -> Run:
    """Return the run of a config, from the store or computed; runs that are missing, or have no weights, are made first.

    Its results hold the `likeness` table and, where a page shows the features, the tables of those that `only` one objective
    finds, and that `page`; its arrays hold `first second`, the likeness above chance for every pair of seeds.
    """
    planned = _runs(config)
    example = planned[0]["e2e"]

    def compute(folder: Path) -> Run:
        from mfrbook.chapters.end_to_end import comparison, stability

        whole = Store(cache_folder(), renew=True)  # the archive's runs have no weights
        seeds = collected(planned, whole, progress=progress)
        picked = stability.comparable(seeds)
        results = {
            "likeness": comparison.likeness(seeds).to_dict("records"),
            "samples": seeds[0]["e2e"].results["samples"],
        }
        if not config.suited:  # no page shows those
            results |= _looked_at(example.config, seeds, picked)
        arrays = {
            f"{one} {other}": stability.across_seeds(
                seeds, (one, picked[one]), (other, picked[other]), above_chance=True
            )
            for one, other in comparison.across(seeds)
        }
        return Run("end-to-end-likeness", describe_config(config), example.data_id, results, arrays=arrays)

    return (store or Store()).compute("end-to-end-likeness", config, example.data_id, compute, fresh=fresh)


def _looked_at(
    config: end_to_end.EndToEndConfig, seeds: list[dict[str, Run]], picked: Mapping[str, int]
) -> dict[str, Any]:
    from mfrbook.chapters.end_to_end import comparison
    from mfrbook.drawing.features import page as feature_page

    first, place, skip = seeds[0], end_to_end.opened(config), int(config.bos)
    texts = list(end_to_end.batches(place, config.n_usage))
    only = {
        mine: comparison.only_in(
            seeds, mine, other, place.model, end_to_end.stack_of(first[mine]), texts, skip=skip
        ).to_dict("records")
        for mine, other in (("e2e", "local"), ("local", "e2e"))
    }
    shown = [
        feature_page.Shown(
            comparison.name(name),
            end_to_end.stack_of(first[name]),
            picked[name],
            first[name].config["hook"],
            first[name].arrays["rate"][picked[name]],
        )
        for name in ("local", "e2e", "downstream")
    ]
    return {"only": only, "page": feature_page.fragment(shown, place.model, texts, skip=skip, **SHOWN)}


class Likeness(NamedTuple, Generic[R]):
    """The comparison of a profile's runs, and those of other runs of the archive."""

    toy: R
    real: R | None
    """On SmolLM2; None before the archive has two seeds."""
    suited: Mapping[str, R]
    """At learning rates that suit each objective: with the chapter's tokens (`tuned`), with more (`longer`)."""


SUITED: Mapping[str, tuple[int, int]] = {
    "tuned": (tuned.ARCHIVED_SEEDS, 1),
    "longer": (longer.ARCHIVED_SEEDS, rates.LONGER),
}
"""Of how many seeds the archive's runs at learning rates that suit each objective are, and with how many times the tokens."""


def compared(profile: str, n_seeds: int | None, values: Mapping[str, Any], **which: int) -> Planned:
    """Return the comparison of the runs of a profile's size and these parameters, or of those that other fields of the config name."""
    known = {name: value for name, value in values.items() if value is not None}
    config = configure({"n_seeds": n_seeds, "values": json.dumps(known, sort_keys=True), **which}, profile)
    return Planned("end-to-end-likeness", config, _runs(config)[0]["e2e"].data_id)


def asked(profile: str, n_seeds: int | None, values: Mapping[str, Any]) -> Likeness[Planned]:
    """Return all comparisons; at other profiles than the archive's, only that of its own runs."""
    several, archive = len(smollm2.asked(profile, None, {})) > 1, profile == "published"
    return Likeness(
        compared(profile, n_seeds, values),
        compared(profile, None, {}, real=True) if several else None,
        {name: compared(profile, count, {}, suited=times) for name, (count, times) in SUITED.items()}
        if archive
        else {},
    )


collect: Collect[Likeness[Run]] = collector(asked)
"""What `asked` plans, loaded or computed."""


def _runs(config: LikenessConfig) -> list[dict[str, Planned]]:
    if config.real:
        return smollm2.asked(config.profile, None, {})
    if config.suited:
        return rates.suited(config.suited, config.n_seeds or 0)
    return end_to_end_plan.asked(config.profile, config.n_seeds, json.loads(config.values))
