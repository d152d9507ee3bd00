"""The page on speed and memory: what `make bench` measured, as sentences, tables and figures."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mfrbook.drawing import report
from mfrbook.drawing.style import Plot
from mfrbook.performance import course, figures, timings
from mfrbook.performance.timings import OURS, REFERENCE, Timings
from mfrbook.store.provenance import commit_text, in_words

DEVICES = {"cpu": "Processor", "cuda": "GPU"}
TARGETS = {"S": 5.5, "G": 2.6, "E": 2.5}  # on a processor: steps of ours within one of the fastest other library
DATA_TARGET = 0.1  # of a step of two SAEs
GROWTH = 0.05  # relative; allocators give memory back a little differently from run to run


def write(project: Path, executed: Path) -> dict[str, dict[str, Any]]:
    """Write the page's measured part from `book/results/performance.json`, and return the numbers its prose names.

    Parameters
    ----------
    project : Path
        The folder with `book/`; the part is `book/executed/performance.md`.
    """
    source = project / "book" / "results" / "performance.json"
    measured = json.loads(source.read_text(encoding="utf-8")) if source.is_file() else {}
    parts: list[str] = []
    values: dict[str, Any] = {}
    for device, title in DEVICES.items():
        parts.append(f"## {title}\n")
        if device in measured:
            found = Timings(**measured[device])
            own = numbers(found)
            values |= {f"{device}_{name}": value for name, value in own.items()}
            parts += page(device, found, own)
        else:
            why = "no GPU was at hand" if device == "cuda" else "`make bench` has not been run"
            parts.append(f"Not measured: {why}. Nothing is claimed about speed there.\n")
    (executed / "performance.md").write_text("\n".join(parts), encoding="utf-8")
    return {"performance": values} if values else {}


def page(device: str, found: Timings, values: Mapping[str, Any]) -> list[str]:
    """Return sentences, tables and figures of one device, as Markdown."""

    def val(name: str, form: str = "") -> str:
        return f"{{val}}`performance.{device}_{name}{form}`"

    made = provenance(found.made)

    def shown(make: Callable[[Timings], pd.DataFrame | Plot], caption: str) -> str:
        data, name = make(found), f"{device}-{make.__name__.replace('_', '-')}"
        html = report.figure_html if isinstance(data, Plot) else report.table_html
        return html(data, name, caption, made) + "\n"

    sentences = [f"Measured on {val('machine')} with {val('threads', ':.0f')} threads; our engine is {val('engine')}."]
    for size in found.sizes:
        rival = ""
        if f"{size}_rival" in values:
            times = val(f"{size}_rival_ratio", ":.2f")
            rival = f"; {val(f'{size}_rival')}, the fastest other library, takes {times} times as long"
            if device == "cpu" and size in TARGETS:
                met = values[f"{size}_rival_ratio"] >= TARGETS[size]
                rival += f" (target {TARGETS[size]} times: {'met' if met else 'missed'})"
        sentences.append(f"At size {size} a step of one SAE takes {val(f'{size}_ms', ':.3g')} ms{rival}.")
    gaps = {one["package"]: one["absent"] for one in found.contestants if "absent" in one}
    gaps |= {f"{row['contestant']} at {row['size']}": row["error"] for row in found.rows if "error" in row}
    if gaps:
        sentences.append(f"Missing: {'; '.join(f'{what} ({why})' for what, why in gaps.items())}.")
    parts = [
        " ".join(sentences) + "\n",
        shown(timings.size_table, "The sizes; the encoder's matrix product alone, at the machine's peak."),
        shown(figures.step_figure, "One training step of one SAE: medians, and quartiles as bars."),
        shown(timings.step_table, "The same steps; quartiles in brackets."),
        shown(timings.ratio_table, "How many times as long as ours they take, within rounds; quartiles in brackets."),
        shown(timings.option_table, "Who took part; the options are those that a step depends on."),
        shown(
            timings.stack_table,
            "Our step for one and more SAEs; medians. Plain: in plain PyTorch. Single: as many steps of one SAE. "
            "Products: the matrix products alone, at the peak.",
        ),
        shown(figures.scaling_figure, "A step as one size grows and the others stay; both axes logarithmic."),
        "### The penalty\n",
        f"With five SAEs at size {val('penalty_size')}, the penalty and its gradient take {val('ten_products', ':.2f')} times as "
        "long as ten matrix products of two dictionaries: there are ten pairs. They take "
        f"{val('penalty_of_step', ':.2f')} times as long as a step without them. With one-to-one matching the penalty takes "
        f"{val('hungarian_times', ':.0f')} times as long as with the maximum.\n",
        shown(timings.penalty_table, "Five SAEs, with the paper's five k for GPT-2."),
        *(course.page(found, val, shown) if found.course else []),
        *(limits(found, val, shown) if found.table("limits") else []),
        "### Data and the whole loop\n",
        f"Making a batch takes {val('data_of_step', ':.0%')} of the time of a step of two SAEs (target {100 * DATA_TARGET:.0f} %: "
        f"{'met' if values['data_of_step'] <= DATA_TARGET else 'missed'}). In `mfrlib.training.loop.train`, with data, records "
        f"and a checkpoint, two SAEs see {val('examples', ':,.0f')} examples a second, {val('examples_penalty', ':,.0f')} with the "
        "penalty.\n",
        shown(timings.loop_table, "Data, step and loop, for two SAEs."),
    ]  # fmt: skip
    if found.memory:
        grows = "about the same" if abs(values["memory_growth"] - 1) < GROWTH else "not the same"
        parts += [
            "### Memory\n",
            f"The largest resident size of `mfr train synthetic` is {val('memory', ':.0f')} MiB in a short run, and "
            f"{val('memory_growth', ':.3f')} times that in a run of {val('memory_times', ':.0f')} times the steps: {grows}.\n",
            shown(timings.memory_table, "Each in a fresh process; the first only imports what training needs."),
        ]
    if device == "cpu":
        parts.append("### Language models\n")
        parts += language_model(found, val, shown) if found.language_model else [
            "Not measured: `make bench` has not been run with the extra `lm` installed.\n"
        ]  # fmt: skip
    return parts


def limits(found: Timings, val: Callable[..., str], shown: Callable[..., str]) -> list[str]:
    """Return how far the parts of a step are from what the processor can do at best, as Markdown."""
    sentences = [
        f"At size {size} the forward pass, which is mostly the search, takes {val(f'{size}_forward', ':.0%')} of a step, and the optimiser "
        f"{val(f'{size}_optimizer', ':.0%')}."
        for size in found.sizes
    ]
    return [
        "### The parts of a step, and the limit\n",
        " ".join(sentences) + " The rest is the gradient.\n",
        f"Products of large square matrices in eight bits reach {val('int8_times', ':.1f')} times the rate in fp32 here, in bf16 "
        f"{val('bf16_times', ':.1f')} times; a plain copy moves {val('bandwidth', ':.1f')} GB/s. At best a search would take as long as the products of all that it "
        "looks at. The optimiser would take as long as one pass over what it reads and writes. Weights that fit a cache can be passed over faster.\n",
        shown(timings.limit_table, "Parts of a step of one SAE, and the penalty of five with its gradient, beside that limit."),
    ]  # fmt: skip


def language_model(found: Timings, val: Callable[..., str], shown: Callable[..., str]) -> list[str]:
    """Return what SAEs on a language model cost beside the bare model, as Markdown."""
    about = found.language_model
    limits = about["limits"]
    within = all(about["ratios"][name] <= limit for name, limit in limits.items())
    return [
        f"On {val('lm')}, {val('lm_sequences', ':.0f')} sequences of {val('lm_length', ':.0f')} tokens a pass: reading the last "
        f"block's activations takes {val('lm_activations', ':.2f')} times as long as the bare model's forward pass. A step of "
        f"one end-to-end SAE takes {val('lm_e2e', ':.2f')} times as long as its forward and backward pass. The limits set "
        f"for this package, {val('lm_activations_limit', ':.1f')} and {val('lm_e2e_limit', ':.1f')} times, are "
        f"{'kept' if within else 'not kept'}.\n",
        shown(timings.language_model_table, "The bare model and SAEs on it took turns."),
    ]


def numbers(found: Timings) -> dict[str, Any]:
    """Return the numbers that the page's prose names."""
    machine = found.made["machine"]
    values = {
        "machine": machine.get("gpu", machine["processor"]),
        "threads": machine["threads"],
        "minutes": found.made["wall_seconds"] / 60,
        "engine": next(one["engine"] for one in found.contestants if one["name"] == OURS),
        "ten_products": found.ratio(what="penalty to ten products")["median"],
        "penalty_of_step": found.ratio(what="penalty to step")["median"],
        "data_of_step": found.ratio(what="data to step")["median"],
    }
    for size in found.sizes:
        seconds = {name: row["seconds"]["median"] for name, row in found.steps(size).items()}
        values[f"{size}_ms"] = 1000 * seconds.pop(OURS)
        seconds.pop(REFERENCE)
        if seconds:
            rival = min(seconds, key=lambda name: seconds[name])
            values |= {f"{size}_rival": rival, f"{size}_rival_ratio": found.to_ours(size, rival)["median"]}
    one_way, one_to_one = (row for row in found.table("penalty") if row["what"] == "penalty")
    values["penalty_size"] = one_way["size"]
    values["hungarian_times"] = one_to_one["seconds"]["median"] / one_way["seconds"]["median"]
    for row in found.table("loop"):
        if row["what"] == "train":
            values["examples_penalty" if row["penalty"] else "examples"] = row["examples_per_second"]
    if found.language_model:
        about = found.language_model
        values |= {"lm": about["model"], "lm_sequences": about["sequences"], "lm_length": about["length"]}
        for name, key in (("activations", "lm_activations"), ("e2e step", "lm_e2e")):
            values |= {key: about["ratios"][name], f"{key}_limit": about["limits"][name]}
    values |= course.numbers(found)
    if "peak_flops_int8" in found.made:
        values |= {
            f"{one}_times": found.made[f"peak_flops_{one}"] / found.made["peak_flops"] for one in ("bf16", "int8")
        }
        values["bandwidth"] = found.made["bytes_per_second"] / 1e9
        for size in found.sizes:
            values[f"{size}_forward"], values[f"{size}_optimizer"] = found.shares(size)
    if found.memory:
        _, short, long = found.memory
        values["memory"] = short["bytes"] / 2**20
        values["memory_growth"] = long["bytes"] / short["bytes"]
        values["memory_times"] = long["steps"] / short["steps"]
    return values


def provenance(made: Mapping[str, Any]) -> dict[str, str]:
    """Return what made a measurement, for the fold below tables and figures."""
    return {
        "Command": made["command"],
        "Commit": commit_text(made),
        "Finished": made["finished"],
        "Versions": in_words(made["versions"]),
        "Machine": in_words(made["machine"]),
        "Rounds": f"{made['rounds']}; a third of them for curves, data and the loop",
        "Peak": f"{made['peak_flops'] / 1e9:.4g} GFLOP/s in fp32 products of square matrices",
        "Round trip of a cache line between two cores": trips(made) or "not measured",
        "Took": f"{made['wall_seconds']} s",
    }


def trips(made: Mapping[str, Any]) -> str:
    """Return how long a cache line took from one core to the other and back, before and after a measurement; empty if unknown."""
    known = [f"{one:.0f} ns" for one in made.get("round_trip_ns", ()) if one is not None]
    return " before, ".join(known) + (" after" if len(known) == 2 else "")
