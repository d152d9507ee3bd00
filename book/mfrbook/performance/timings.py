"""What one run of the benchmark measured on one device: its rows, as tables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mfrbook.drawing.tables import Interval

OURS, REFERENCE = "mfrlib", "mfrlib, plain PyTorch"
SIZES = {"S": "the paper's synthetic experiment", "G": "GPT-2 small", "E": "windows of EEG"}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Timings:
    """One device's part of `book/results/performance.json`, as `tests/benchmarks` writes it.

    Attributes
    ----------
    contestants : list of dict
        Name, package, version, options, engine; `absent` with the reason, where a library could not be had.
    rows : list of dict
        Which table it belongs to, what was timed, who did it, the sizes; median and quartiles of the seconds, or `error`.
    ratios : list of dict
        Two times divided within rounds, median and quartiles.
    memory : list of dict
        Largest resident size, in bytes, by steps trained.
    made : dict
        Commit, date, versions, machine, rounds, the machine's peak in operations a second.
    language_model : dict
        What SAEs on a language model cost beside the bare model; empty where that was not measured.
    course : dict
        What the penalty cost over whole trainings (`mfrbook.performance.course`); empty where that was not measured.
    """

    contestants: list[Row]
    rows: list[Row]
    ratios: list[Row]
    memory: list[Row]
    made: Row
    language_model: Row = field(default_factory=dict)
    course: Row = field(default_factory=dict)

    def table(self, name: str) -> list[Row]:
        """Return the rows of a table that were measured: "steps", "penalty", "loop", or an axis."""
        return [row for row in self.rows if row["table"] == name and "seconds" in row]

    @property
    def sizes(self) -> list[str]:
        """Names of the sizes that steps were timed at."""
        return list(dict.fromkeys(row["size"] for row in self.table("steps")))

    def steps(self, size: str) -> dict[str, Row]:
        """Return the steps of one SAE at a size, by contestant."""
        rows = [row for row in self.table("steps") if row["size"] == size and row["n_saes"] == 1]
        return {row["contestant"]: row for row in rows}

    def ratio(self, **fields: Any) -> Mapping[str, float]:
        """Return median and quartiles of the first ratio with these fields."""
        return _first(self.ratios, fields)["ratio"]

    def shares(self, size: str) -> tuple[float, float]:
        """Return which share of a step of one SAE its forward pass takes, and its optimiser."""
        seconds = {row["what"]: row["seconds"]["median"] for row in self.table("limits") if row["size"] == size}
        return seconds["forward"] / seconds["step"], seconds["optimizer"] / seconds["step"]

    def to_ours(self, size: str, name: str) -> Mapping[str, float]:
        """Return how many times as long as ours somebody's step of one SAE takes."""
        if name == OURS:
            return dict.fromkeys(("median", "q1", "q3"), 1.0)
        return self.ratio(what="step", contestant=name, size=size, n_saes=1)


def size_table(timings: Timings) -> pd.DataFrame:
    """Return the sizes, and the time of the matrix products alone at the machine's peak."""
    rows = []
    for size in timings.sizes:
        row = timings.steps(size)[OURS]
        names = {"batch": "batch", "d_in": "d", "n_features": "features", "k": "k"}
        rows.append(
            {"size": size, "what": SIZES.get(size, "a check of the machinery")}
            | {label: row[name] for name, label in names.items()}
            | {"GFLOP": row["products_seconds"] * timings.made["peak_flops"] / 1e9}
            | {"ms at the peak": 1000 * row["products_seconds"]}
        )
    return pd.DataFrame(rows)


def step_table(timings: Timings) -> pd.DataFrame:
    """Return everybody's step of one SAE."""
    return _by_size(timings, lambda size, name: _milliseconds(timings.steps(size)[name]["seconds"]), ", ms")


def ratio_table(timings: Timings) -> pd.DataFrame:
    """Return how many times as long as ours everybody's step of one SAE takes."""
    return _by_size(timings, lambda size, name: _spread(timings.to_ours(size, name)), "")


def option_table(timings: Timings) -> pd.DataFrame:
    """Return which versions took part, and with what options."""
    return pd.DataFrame(
        {
            "library": one["name"],
            "version": f"v{one['version']}" if "version" in one else "absent",
            "options": one["options"],
        }
        for one in timings.contestants
    )


def stack_table(timings: Timings) -> pd.DataFrame:
    """Return our step for each number of SAEs, with and without penalty, and what the products alone would take."""
    rows = []
    for ours in timings.table("steps"):
        if ours["contestant"] != OURS:
            continue
        same = {name: ours[name] for name in ("size", "n_saes", "penalty")}
        plain = _first(timings.table("steps"), {"contestant": REFERENCE, **same})
        shares = ours["n_saes"] > 1 and not ours["penalty"]
        single = timings.ratio(what="stack to as many single steps", **same)["median"] if shares else None
        numbers = {
            "ours, ms": 1000 * ours["seconds"]["median"],
            "plain, ms": 1000 * plain["seconds"]["median"],
            "plain / ours": timings.ratio(what="step", contestant=REFERENCE, **same)["median"],
            "ours / single": single,
            "ours / products": ours["seconds"]["median"] / ours["products_seconds"],
        }
        rows.append(same | {name: "–" if value is None else _three_digits(value) for name, value in numbers.items()})
    table = pd.DataFrame(rows).rename(columns={"n_saes": "SAEs"})
    table["penalty"] = table["penalty"].map({True: "yes", False: "no"})
    return table


def penalty_table(timings: Timings) -> pd.DataFrame:
    """Return what the penalty costs, beside plain products and a step."""
    labels = {
        "penalty": "penalty with gradient", "products": "ten matrix products", "step": "step", "hungarian": "penalty, one-to-one",
    }  # fmt: skip
    rows = []
    for row in timings.table("penalty"):
        label = labels[row.get("matching", row["what"])] + (" with penalty" if row["penalty"] else "")
        rows.append({"what": label, "ms": _milliseconds(row["seconds"])})
    ratios = {"penalty to ten products": "penalty / ten products", "penalty to step": "penalty / step",
              "step with penalty": "step with penalty / step"}  # fmt: skip
    rows += [{"what": label, "ratio": _spread(timings.ratio(what=name))} for name, label in ratios.items()]
    return pd.DataFrame(rows).fillna("–")


def limit_table(timings: Timings) -> pd.DataFrame:
    """Return what the parts of a step and the penalty take, beside what the processor could do at best."""
    labels = {"forward": "forward pass", "optimizer": "optimiser", "penalty": "penalty, every row searched"}
    rows = []
    for row in timings.table("limits"):
        if limit := row.get("limit_seconds"):
            times = row["seconds"]["median"] / limit
            rows.append({"what": labels[row["what"]], "size": row["size"], "SAEs": row["n_saes"], "ms": _milliseconds(row["seconds"]),
                         "at best, ms": 1000 * limit, "times as long": times})  # fmt: skip
    return pd.DataFrame(rows)


def loop_table(timings: Timings) -> pd.DataFrame:
    """Return the cost of data, step and loop."""
    labels = {"data": "one batch of data", "step": "one step", "train": "the loop"}
    rows = []
    for row in timings.table("loop"):
        label = labels[row["what"]] + (" with penalty" if row["penalty"] else "")
        seconds = {name: value / row.get("steps", 1) for name, value in row["seconds"].items()}
        rate = f"{row['examples_per_second']:,.0f}" if "examples_per_second" in row else "–"
        rows.append({"what": label, "ms a step": _milliseconds(seconds), "examples a second": rate})
    return pd.DataFrame(rows)


def memory_table(timings: Timings) -> pd.DataFrame:
    """Return the largest resident size of whole trainings."""
    return pd.DataFrame(
        {
            "steps": row["steps"],
            "largest resident size, MiB": round(row["bytes"] / 2**20),
            "of this weights, gradients, optimiser, MiB": row["weights_bytes"] / 2**20,
            "without them, MiB": round((row["bytes"] - row["weights_bytes"]) / 2**20),
        }
        for row in timings.memory
    )


def language_model_table(timings: Timings) -> pd.DataFrame:
    """Return what a pass of a language model takes, bare and with SAEs."""
    seconds = timings.language_model["seconds"]
    return pd.DataFrame({"pass": name, "milliseconds, median": 1000 * value} for name, value in seconds.items())


def _first(rows: list[Row], fields: Row) -> Row:
    for row in rows:
        if fields.items() <= row.items():
            return row
    raise KeyError(f"the benchmark has no row with {dict(fields)}")


def _by_size(timings: Timings, cell: Callable[[str, str], Interval], unit: str) -> pd.DataFrame:
    """Return a row for each contestant that took part and a column for each size; a gap where one failed."""
    names = [one["name"] for one in timings.contestants if "absent" not in one]
    return pd.DataFrame(
        {"library": name}
        | {size + unit: cell(size, name) if name in timings.steps(size) else "–" for size in timings.sizes}
        for name in names
    )


def _milliseconds(seconds: Mapping[str, float]) -> Interval:
    return _spread({name: 1000 * value for name, value in seconds.items()})


def _spread(found: Mapping[str, float]) -> Interval:
    """Return a median and its quartiles."""
    return Interval(found["median"], found["q1"], found["q3"])


def _three_digits(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
