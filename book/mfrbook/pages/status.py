"""The status page: the archive's runs, what `mfr verify` last confirmed of them, and how the notebooks ran."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from mfrbook.book.verify import Comparison
from mfrbook.drawing.markdown import table
from mfrbook.store.provenance import commit_text, in_words, machine
from mfrbook.store.runs import Run

VERIFIED = "verified.json"


def durations(runs: Sequence[Run], notebooks: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the times that the prose names: how long the archive's runs took, and the notebooks of this build."""
    took = sorted(run.provenance["wall_seconds"] for run in runs)
    if not took:
        return {}
    ran = [one["metadata"].get("papermill", {}).get("duration") or 0.0 for one in notebooks.values()]
    times = {
        "runs": len(took),
        "hours": sum(took) / 3600,
        "median_minutes": median(took) / 60,
        "longest_hours": took[-1] / 3600,
        "notebooks_seconds": sum(ran),
        "longest_notebook_seconds": max(ran, default=0.0),
    }
    return {"durations": times}


def page(archive: Path, runs: Sequence[Run], notebooks: Mapping[str, dict[str, Any]]) -> str:
    """Return the tables of the status page as Markdown: of the archive's folder, its runs, and the executed notebooks."""
    parts = [
        f"## The archive's runs\n\n{archived(runs)}",
        f"## Recomputed and compared\n\n{verified(archive)}",
        f"## The notebooks\n\n{notebook_table(notebooks)}",
    ]
    return "\n\n".join(parts)


def archived(runs: Sequence[Run]) -> str:
    """Say how many runs the archive holds, how long they took, from which commits, and on which machines."""
    if not runs:
        return "The archive holds no run.\n"
    made = [run.provenance for run in runs]
    dirty = [run.key for run, one in zip(runs, made, strict=True) if one.get("dirty")]
    stale = sum(run.stale for run in runs)
    lines = [
        f"The archive holds {len(runs)} runs: {_hours(made)} hours of computing, from {len({one['commit'] for one in made})} commits.",
        f"Stale runs: {stale or 'none'}.",
        f"Runs made from a tree with local changes: {', '.join(f'`{key}`' for key in dirty) or 'none'}.",
    ]
    rows = []
    for experiment in dict.fromkeys(run.experiment for run in runs):
        found = [run.provenance for run in runs if run.experiment == experiment]
        days = sorted(one["finished"][:10] for one in found)
        rows.append(
            [experiment, len(found), _hours(found), f"{days[0]} to {days[-1]}", len({one["commit"] for one in found})]
        )
    machines = Counter(in_words(one["machine"]) for one in made)
    return "\n".join(
        [
            " ".join(lines) + "\n",
            table(["Experiment", "Runs", "Hours", "Computed", "Commits"], rows),
            table(["Machine", "Runs"], [[name, n] for name, n in machines.most_common()]),
        ]
    )


def _hours(made: Sequence[Mapping[str, Any]]) -> str:
    return f"{sum(one['wall_seconds'] for one in made) / 3600:.1f}"


def verified(archive: Path) -> str:
    """Return what `mfr verify --record` kept: each archived run that was recomputed, when, and how it came out."""
    file = archive / VERIFIED
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if not kept:
        return "No recomputation of an archived run is recorded. `mfr verify KEY --record` records one.\n"
    rows = [
        [one["experiment"], f"`{key}`", one["date"], one["outcome"], in_words(one["machine"]), one["commit"]]
        for key, one in sorted(kept.items(), key=lambda item: (item[1]["experiment"], item[0]))
    ]
    return table(["Experiment", "Run", "Date", "Outcome", "Machine", "Commit"], rows)


def record(archive: Path, found: Comparison, made: Mapping[str, Any]) -> None:
    """Keep for the status page how the recomputation of an archived run came out; `made` names today's commit."""
    file = archive / VERIFIED
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    kept[found.run.key] = {
        "experiment": found.run.experiment,
        "date": datetime.now(UTC).date().isoformat(),
        "outcome": outcome(found),
        "machine": machine(),
        "commit": commit_text(made),
    }
    file.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def outcome(found: Comparison) -> str:
    """Say how a recomputation came out, and which numbers are off."""
    if found.exact:
        return "the same, bit for bit"
    off = [name for name, (deviation, allowed) in found.differences.items() if not deviation <= allowed]
    n = len(found.differences)
    return f"{n - len(off)} of {n} numbers within the tolerance" + (f"; not {', '.join(off)}" if off else "")


def notebook_table(notebooks: Mapping[str, dict[str, Any]]) -> str:
    """Tell for each executed notebook how and when it ran, from which sources, with what and on what."""
    runs: list[list[str]] = []
    places: dict[tuple[str, str], list[str]] = {}
    for name, notebook in notebooks.items():
        run, ours = notebook["metadata"].get("papermill", {}), notebook["metadata"].get("mfr", {})
        cell = failed_cell(notebook)
        finished = str(run.get("end_time", "not recorded"))[:16].replace("T", " ")
        commit = f"`{ours['commit'][:10]}`" if ours.get("commit") else "not recorded"
        runs.append(
            [
                f"[{name}](executed/{name}.ipynb)",
                "ok" if cell is None else f"failed in cell {cell}",
                f"{run['duration']:.0f} s" if run.get("duration") is not None else "not recorded",
                finished,
                ours.get("profile", "not recorded"),
                commit + (" with local changes" if ours.get("dirty") else ""),
            ]
        )
        places.setdefault((in_words(ours.get("versions")), in_words(ours.get("machine"))), []).append(name)
    header = ["Notebook", "Result", "Run time", "Finished (UTC)", "Profile", "Commit"]
    made = [[", ".join(names), *place] for place, names in places.items()]
    return table(header, runs) + "\n" + table(["Notebooks", "Versions", "Machine"], made)


def failed_cell(notebook: Mapping[str, Any]) -> int | None:
    """Return the number of the cell that failed, counted from 1, or None if the notebook ran through."""
    for number, cell in enumerate(notebook["cells"], start=1):
        if any(output["output_type"] == "error" for output in cell.get("outputs", [])):
            return number
    metadata = notebook["metadata"].get("papermill", {})
    return len(notebook["cells"]) if metadata.get("exception") else None
