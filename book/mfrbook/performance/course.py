"""What the penalty costs over whole trainings, as `tests/benchmarks/course.py` measured it."""

from collections.abc import Callable
from statistics import mean
from typing import Any

import pandas as pd

from mfrbook.drawing.palette import OTHERS
from mfrbook.drawing.style import Plot, new_axes, styled
from mfrbook.performance.timings import Timings

TARGETS = {"SmolLM2": 4, "EEG": 3}  # the penalty in steps without it that search in fp32
MARKERS = "os^D"


def numbers(found: Timings) -> dict[str, Any]:
    """Return the numbers that the page's prose names, for each training; ratios are taken within blocks of steps."""
    values: dict[str, Any] = {}
    for name, run in found.course.items():
        blocks = run["blocks"]
        values[f"{name}_steps"], values[f"{name}_searched"] = blocks[-1]["step"], run["searched"]
        for unit, key in (("without", "of_step"), ("fp32", "of_fp32")):
            values[f"{name}_{key}"] = mean((block["with"] - block["without"]) / block[unit] for block in blocks)
    return values


def page(found: Timings, val: Callable[..., str], shown: Callable[..., str]) -> list[str]:
    """Return sentence, figure and table, as Markdown."""
    values, sentences = numbers(found), []
    for name in found.course:
        target = ""
        if name in TARGETS:
            target = f" (target {TARGETS[name]}: {'met' if values[f'{name}_of_fp32'] <= TARGETS[name] else 'missed'})"
        sentences.append(
            f"On {name}, {val(f'{name}_searched', ':.0%')} of the rows are searched over {val(f'{name}_steps', ':,.0f')} steps, and the "
            f"penalty takes {val(f'{name}_of_step', ':.2f')} times as long as the rest of the step. That is "
            f"{val(f'{name}_of_fp32', ':.2f')} times a step that searches in fp32{target}."
        )
    return [
        "Over a whole training the penalty costs less than in its first steps, since most rows keep their match. "
        "Five SAEs were trained with it on the data of the chapters. "
        + " ".join(sentences) + "\n",
        shown(course_figure, "Rows searched for their match, and the penalty's time in steps without it, over a training."),
        shown(course_table, "Means over a training; five SAEs."),
    ]  # fmt: skip


@styled
def course_figure(timings: Timings) -> Plot:
    """Draw the share of rows searched and the penalty's cost by step."""
    data = pd.DataFrame(
        {"training": name, "step": one["step"], "searched_percent": 100 * one["searched"],
         "penalty_in_steps": (one["with"] - one["without"]) / one["without"]}
        for name, run in timings.course.items() for one in run["blocks"]
    )  # fmt: skip
    figure, axes = new_axes(2, height=2.8)
    for (name, part), colour, marker in zip(data.groupby("training", sort=False), OTHERS, MARKERS, strict=False):
        for ax, column in zip(axes, ("searched_percent", "penalty_in_steps"), strict=True):
            ax.plot(part["step"], part[column], color=colour, marker=marker, ms=3, label=name)
    axes[0].set(xlabel="step", ylabel="rows searched, %", ylim=(0, None))
    axes[1].set(xlabel="step", ylabel="penalty / rest of the step", ylim=(0, None))
    axes[0].legend()
    ends = data.groupby("training", sort=False).last()
    said = ", ".join(f"{row.searched_percent:.0f} % on {name}" for name, row in ends.iterrows())
    alt = f"Share of rows searched for their match, and the penalty's time, by step; at the end {said} are searched."
    return Plot(figure, data, alt, f"Of the rows, {said} are still searched at the end.")


def course_table(timings: Timings) -> pd.DataFrame:
    """Return a row for each training: its sizes, what was searched, what a step takes."""
    rows, values = [], numbers(timings)
    for name, run in timings.course.items():
        ms = {column: 1000 * mean(block[column] for block in run["blocks"]) for column in ("with", "without", "fp32")}
        rows.append({
            "training": name, "batch": run["batch"], "d_in": run["d_in"], "features": run["n_features"],
            "rows searched": f"{values[f'{name}_searched']:.1%}", "step with penalty, ms": ms["with"], "without, ms": ms["without"],
            "without, search in fp32, ms": ms["fp32"],
        })  # fmt: skip
    return pd.DataFrame(rows)
