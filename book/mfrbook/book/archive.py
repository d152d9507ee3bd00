"""The archive: the runs of the published book, computed run by run and kept in the repository, without their weights.

A queue that can be stopped at any time: each run is archived as it ends, and one that was interrupted goes on from its
last checkpoint.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from mfrbook.book import plan
from mfrbook.book.plan import Plan
from mfrbook.chapters import registry
from mfrbook.drawing.markdown import table
from mfrbook.store.behaviour import adopted
from mfrbook.store.provenance import PROJECT, commit_text
from mfrbook.store.runs import Run, read, write
from mfrbook.store.store import Store
from mfrlib.config import key_fields, require

ARCHIVE = PROJECT / "book" / "results"
INDEX = "index.md"


def fill(*, jobs: int | None, renew: bool = False) -> list[str]:
    """Compute and archive every run that the published book asks for, in the book's order.

    Parameters
    ----------
    jobs
        Runs at once, None for one for every core, each on its share of the cores; on a GPU one is best.
    renew
        Compute stale runs again.

    Returns
    -------
    list of str
        Keys of the runs that failed; what they said has been printed.
    """
    planned, file = plan.load("published", {})
    jobs = jobs or os.cpu_count() or 1
    threads = max(1, (os.cpu_count() or 1) // jobs)
    waiting = [key for key in planned.runs if not _keep(planned, key, renew)]
    write_index(ARCHIVE)
    print(_left(planned, waiting, jobs), flush=True)
    failed: list[str] = []
    with ThreadPoolExecutor(jobs) as pool:
        running: dict[Future[str], str] = {}
        try:
            while waiting or running:
                # One that waits for another's outcome stands back until that is known.
                busy = set(running.values()) | set(waiting)
                ready = [key for key in waiting if planned.runs[key].after not in busy]
                for key in ready[: jobs - len(running)]:
                    waiting.remove(key)
                    running[pool.submit(_compute, file, key, threads, renew)] = key
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    key = running.pop(future)
                    said, entry = future.result(), planned.runs[key]
                    if not said and not _keep(planned, key, renew):
                        said = "computed, but not in the store"
                    if said:
                        failed.append(key)
                    print(f"{entry.experiment} {key} {entry.about}: {said or 'archived'}", flush=True)
                    print(_left(planned, [*waiting, *running.values()], jobs, failed), flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failed


def _compute(file: Path, key: str, threads: int, renew: bool) -> str:
    """Compute a run in a process of its own; return what went wrong, if anything."""
    line = [sys.executable, "-m", "mfrbook", "compute", str(file), key, *(["--renew"] if renew else [])]
    done = subprocess.run(
        line,
        cwd=PROJECT,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    return done.stderr.strip()[-2000:] or f"exit status {done.returncode}" if done.returncode else ""


def _keep(planned: Plan, key: str, renew: bool) -> bool:
    """Archive a run that is done, unless it is there already; tell whether it is done, or not needed."""
    found = planned.settled(key, renew)
    if found and not Path(found["entry"]).is_relative_to(ARCHIVE):
        keep(Path(found["entry"]), ARCHIVE)
        write_index(ARCHIVE)
    return bool(found)


def keep(entry: Path, root: Path) -> Path:
    """Copy a run from the store into the archive at `root`, without its weights; return where it lies there."""
    run = read(entry, weights=False)
    place = root / run.experiment / run.key
    write(run, place)
    return place


def adopt(folder: Path, root: Path = ARCHIVE) -> tuple[list[str], list[str]]:
    """Archive the runs of another checkout's store, made by this project's code at a commit whose behaviour is known.

    Parameters
    ----------
    folder
        Root of a store, such as another checkout's `.runs`.

    Returns
    -------
    adopted, refused : list of str
        Keys, and sentences that say why a run stays out: made with uncommitted changes, or by code whose behaviour
        nobody knows. Runs that the archive has already, as new, are in neither.
    """
    require(folder.is_dir(), "--adopt", str(folder), "must be the folder of a store")
    taken, refused = [], []
    root.mkdir(parents=True, exist_ok=True)
    for run in Store(folder).all(weights=False):
        try:
            run.provenance = adopted(run.experiment, run.provenance)
            if run.provenance["dirty"]:
                raise ValueError("made with uncommitted changes; compute it again from a clean checkout")
        except ValueError as error:
            refused.append(f"{run.experiment} {run.key}: {error}")
            continue
        place = root / run.experiment / run.key
        if not place.exists() or read(place, weights=False).provenance["finished"] < run.provenance["finished"]:
            run.weights = {}
            write(run, place)
            taken.append(run.key)
    write_index(root)
    return taken, refused


def write_index(root: Path) -> None:
    """Write the archive's table for people, beside the folders that are named by hashes."""
    rows = []
    for run in Store(root).all(weights=False):
        full = getattr(registry.load(run.experiment), "PAPER_SAMPLES", None)
        samples = run.results.get("samples")
        rows.append(
            [
                run.experiment,
                describe(run),
                run.config["seed"],
                f"{samples:,}" if samples else "–",
                f"{100 * samples / full:.3g} %" if samples and full else "–",
                commit_text(run.provenance),
                f"[`{run.key}`]({run.experiment}/{run.key}/run.json)",
            ]
        )
    header = [
        "Experiment",
        "Fields that differ from the defaults",
        "Seed",
        "Samples",
        "Of the paper's",
        "Commit",
        "Run",
    ]
    rows.sort(key=lambda row: (row[0], row[1], row[2]))
    (root / INDEX).write_text(f"# Archived runs\n\n{table(header, rows)}", encoding="utf-8")


def describe(run: Run) -> str:
    """Name the fields in which a run's config differs from its experiment's defaults, the seed aside."""
    config = registry.load(run.experiment).configure(run.config)
    fields = key_fields(config).items()
    return ", ".join(f"{name}={value}" for name, value in fields if name not in ("seed", "data"))


def _left(planned: Plan, keys: Sequence[str], jobs: int, failed: Sequence[str] = ()) -> str:
    """Say what is done, what failed, and how long what is left (`keys`) will take by the runs that are done."""
    done: dict[str, list[tuple[float, float]]] = {}
    for key, entry in planned.runs.items():
        if key in keys:
            continue
        for folder in Store().entries(entry.experiment, key):
            try:
                seconds = read(folder, weights=False).provenance["wall_seconds"]
            except (ValueError, KeyError):  # it is not there, or was damaged when its run failed
                continue
            done.setdefault(entry.experiment, []).append((seconds, _size(entry.config)))
            break
    seconds, unknown = 0.0, set()
    for key in keys:
        entry = planned.runs[key]
        if entry.experiment in done:
            known = done[entry.experiment]
            seconds += sum(one for one, _ in known) / sum(size for _, size in known) * _size(entry.config)
        else:
            unknown.add(entry.experiment)
    more = f", and what nobody knows yet for {', '.join(sorted(unknown))}" if unknown else ""
    estimate = f"; about {seconds / 60 / jobs:.0f} minutes{more}" if keys else ""
    n_done = len(planned.runs) - len(keys) - len(failed)
    lost = f"; {len(failed)} failed" if failed else ""
    return f"{n_done} of {len(planned.runs)} runs are archived, or not needed{lost}{estimate}"


def _size(config: Mapping[str, int]) -> float:
    """What the time of a run is taken to be proportional to, among runs of one experiment."""
    names = ("steps", "batch_size", "n_saes", "n_features", "n_replicas")
    size = 1.0
    for name in names:
        size *= config.get(name, 1)
    return size
