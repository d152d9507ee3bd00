"""Runs and the store that keeps them: content-addressed, atomic, checksummed, with provenance.

A run's key is a hash of its experiment, of the config's fields that differ from the defaults they were introduced
with, and of the data's declared id. The store has two roots, read in this order: the archive `book/results/` and a
local cache (`MFR_CACHE`, default `.runs/`), where everything is written.
"""

import dataclasses
import fcntl
import gzip
import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mfrlib.behaviour import is_current, marks
from mfrlib.config import key_fields
from mfrlib.provenance import PROJECT, provenance

if TYPE_CHECKING:  # planning, which a scheduler does in every job, does without torch
    from torch import Tensor

CHECKSUMS, METRICS = "checksums.json", "metrics.jsonl.gz"
T = TypeVar("T")


class MissingRunsError(LookupError):
    """Runs that a profile which never trains needs are not in the archive; the message lists them, a line each."""


@dataclass
class Run:
    """One finished run.

    Attributes
    ----------
    experiment, config, data_id
        What was run; `config` holds every field.
    results : dict
        Final numbers, plain JSON.
    metrics : list of dict
        Records over steps, kept to nine significant digits.
    arrays : dict of ndarray
        Small arrays that figures are drawn from.
    weights : dict of Tensor
        Empty where an archive left them out.
    provenance : dict
        Commit, behaviour (`mfrlib.behaviour`), versions, hardware, wall time, data hash; `corrected`, where a number was
        measured again later, says which and why.
    stale : bool
        Whether the code has changed its behaviour since.
    """

    experiment: str
    config: dict[str, Any]
    data_id: str
    results: dict[str, Any]
    metrics: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    weights: "dict[str, Tensor]" = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    key: str = ""

    @property
    def stale(self) -> bool:
        """Whether the run was made by code that behaves otherwise than today's."""
        return not is_current(self.experiment, self.provenance)

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return steps `(record,)` and values `(record,)` or `(record, sae)` of a recorded metric."""
        kept = [record for record in self.metrics if name in record]
        return np.array([record["step"] for record in kept]), np.array([record[name] for record in kept])


def run_key(experiment: str, config: Any, data_id: str) -> str:
    """Return the key of a run, 16 hexadecimal digits."""
    identity = {"experiment": experiment, "config": key_fields(config), "data": data_id}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


class Store:
    """The run store. Reads from all roots, writes to the last.

    Parameters
    ----------
    roots
        Folders; by default the archive and the local cache.
    trains
        Whether a run that is not there may be computed; else it is an error.
    renew
        Whether a stale run counts as not there; else it is used, and shown as stale.

    Examples
    --------
    >>> run = next(Store().all("eeg", weights=False))
    >>> steps, loss = run.series("loss")
    >>> loss.shape == (len(steps), run.config["n_saes"])
    True
    """

    def __init__(self, *roots: Path, trains: bool = True, renew: bool = False) -> None:
        self.roots = [Path(root) for root in roots] or [PROJECT / "book" / "results", cache_folder()]
        self.trains, self.renew = trains, renew

    @property
    def cache(self) -> Path:
        """The root that is written to."""
        return self.roots[-1]

    def get(self, experiment: str, config: Any, data_id: str) -> Run | None:
        """Return the finished run, or None; a damaged entry is reported and passed over.

        Of several, the newest that is not stale, in the last root of two as new; else the first.
        """
        entries = self.entries(experiment, run_key(experiment, config, data_id))
        found = [run for entry in entries if entry.is_dir() and (run := _read_sound(entry))]
        if fresh := [run for run in found if not run.stale]:
            return max(reversed(fresh), key=lambda run: run.provenance["finished"])
        return None if self.renew or not found else found[0]

    def entries(self, experiment: str, key: str) -> list[Path]:
        """Return the folders where a run may lie, in the order in which they are read."""
        return [root / experiment / key for root in self.roots]

    def compute(
        self,
        experiment: str,
        config: Any,
        data_id: str,
        function: Callable[[Path], Run],
        *,
        fresh: bool = False,
    ) -> Run:
        """Return the stored run, or compute, store and return it.

        Parameters
        ----------
        function
            Called with the folder of the unfinished run (which may hold a checkpoint); returns the run.
        fresh
            Compute even if the run is there.
        """
        from mfrlib.parallel import team  # takes torch, which whoever only plans does without

        key = run_key(experiment, config, data_id)
        unfinished, crew = self.cache / "unfinished" / key, team()
        if not crew.leads:  # the first process holds the lock, decides and writes; the others help to compute
            if crew.agree():
                function(unfinished)
                crew.agree()
            found = self.get(experiment, config, data_id)
            assert found is not None
            return found
        if not fresh and (found := self.get(experiment, config, data_id)):
            crew.agree(False)
            return found
        if not self.trains:
            raise MissingRunsError(f"not in the archive: {experiment} {key} {key_fields(config)}")
        with _locked(self.cache / "locks" / key):
            if not fresh and (found := self.get(experiment, config, data_id)):
                crew.agree(False)
                return found  # another process computed it while this one waited
            # Never resume from a checkpoint of code that behaved otherwise.
            mark, behaviour = unfinished / "behaviour.json", json.dumps(marks(experiment))
            if fresh or not mark.exists() or mark.read_text() != behaviour:
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir(parents=True)
                mark.write_text(behaviour)
            crew.agree(True)
            start = time.perf_counter()
            try:
                run = function(unfinished)
            except BaseException:
                if {one.name for one in unfinished.iterdir()} <= {mark.name, "config.json"}:  # nothing to go on with
                    shutil.rmtree(unfinished)
                raise
            run.key = key
            run.provenance |= provenance(experiment) | {"wall_seconds": round(time.perf_counter() - start, 2)}
            write(run, self.cache / experiment / key, unfinished)  # which goes, with whatever a killed process left
            crew.agree()
            shutil.rmtree(unfinished)
            return read(self.cache / experiment / key)  # what every later reader gets, JSON's types included

    def finished(self, experiment: str = "*", key: str = "") -> list[Path]:
        """Return the folders of all runs, or those of an experiment or whose key begins so, in the order of the roots."""
        found = [one.parent for root in self.roots for one in sorted(root.glob(f"{experiment}/[!.]*/{CHECKSUMS}"))]
        return [entry for entry in found if entry.name.startswith(key)]

    def all(self, experiment: str = "*", key: str = "", *, weights: bool = True) -> Iterator[Run]:
        """Yield every readable run of every root, each key once; of those that `finished` returns."""
        seen = set()
        for entry in self.finished(experiment, key):
            if entry.name not in seen and (run := _read_sound(entry, weights=weights)):
                seen.add(entry.name)
                yield run


def complete(calls: Iterable[Callable[[], T]]) -> list[T]:
    """Make every call and return the results; if some miss their runs, list all that are missing in one error."""
    results, missing = [], []
    for call in calls:
        try:
            results.append(call())
        except MissingRunsError as error:
            missing += str(error).splitlines()
    if missing:
        raise MissingRunsError("\n".join(dict.fromkeys(missing)))
    return results


def cache_folder() -> Path:
    """Return the folder that is written to: `MFR_CACHE`, or `.runs` in the project."""
    return Path(os.environ.get("MFR_CACHE") or PROJECT / ".runs")


def write(run: Run, entry: Path, within: Path | None = None) -> None:
    """Write a run beside its place, or `within` a folder, and rename it there: no half-written run is ever read."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    within = within or entry.parent
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=within))
    try:
        head = {
            name: getattr(run, name) for name in ("experiment", "key", "config", "data_id", "results", "provenance")
        }
        (temporary / "run.json").write_text(json.dumps(head, indent=1) + "\n")
        records = "".join(json.dumps(_rounded(record)) + "\n" for record in run.metrics)
        (temporary / METRICS).write_bytes(gzip.compress(records.encode(), mtime=0))
        np.savez_compressed(temporary / "arrays.npz", **run.arrays)  # type: ignore[arg-type]
        if run.weights:
            from safetensors.torch import save_file

            save_file(run.weights, temporary / "weights.safetensors")
        sums = {file.name: _sha256(file) for file in sorted(temporary.iterdir())}
        (temporary / CHECKSUMS).write_text(json.dumps(sums, indent=1) + "\n")
        temporary.chmod(0o755)
        with tempfile.TemporaryDirectory(prefix=".replaced-", dir=within) as aside:
            old = Path(aside) / entry.name
            if entry.exists():
                os.replace(entry, old)
            try:
                os.replace(temporary, entry)
            except BaseException:
                if old.exists():
                    os.replace(old, entry)
                raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _rounded(record: Mapping[str, Any]) -> Any:
    """Return a record with nine significant digits, which tell every float32 apart; the others only take up space."""
    return json.loads(json.dumps(record), parse_float=lambda text: float(f"{float(text):.9g}"))


def read(entry: Path, *, weights: bool = True) -> Run:
    """Read a run, checking every file against its checksum.

    Parameters
    ----------
    entry
        Its folder.
    weights
        Whether to load the weights, which needs torch.

    Raises
    ------
    ValueError
        If a file is missing, damaged or not in the list of checksums, or the run is not the one that its folder names.
    """
    with _reading(entry / CHECKSUMS):
        sums = json.loads((entry / CHECKSUMS).read_text())
        if not isinstance(sums, dict):
            raise ValueError(f"must be an object, given {sums!r}")
        records = METRICS if METRICS in sums else "metrics.jsonl"  # older stores hold plain text
        if unlisted := {"run.json", records, "arrays.npz"} - sums.keys():
            raise ValueError(f"does not list {', '.join(sorted(unlisted))}")
    for name, expected in sums.items():
        with _reading(entry / name):
            if not (entry / name).is_file() or _sha256(entry / name) != expected:
                raise ValueError("does not match its checksum")
    with _reading(entry / "run.json"):
        run = Run(**json.loads((entry / "run.json").read_text()))
        if (run.experiment, run.key) != (entry.parent.name, entry.name):
            raise ValueError(f"is of {run.experiment} {run.key}")
    with _reading(entry / records):
        content = (entry / records).read_bytes()
        lines = gzip.decompress(content) if records == METRICS else content
        run.metrics = [json.loads(line) for line in lines.splitlines()]
    with (
        _reading(entry / "arrays.npz"),
        (entry / "arrays.npz").open("rb") as opened,  # numpy leaves open what it cannot read
        np.load(opened, allow_pickle=False) as arrays,
    ):
        run.arrays = dict(arrays)
    if weights and "weights.safetensors" in sums:
        from safetensors.torch import load_file

        with _reading(entry / "weights.safetensors"):
            run.weights = load_file(entry / "weights.safetensors")
    return run


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Name the file in whatever error reading it gives; formats have errors of their own, and not all are documented."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{file.name}: {error}") from error


def _read_sound(entry: Path, *, weights: bool = True) -> Run | None:
    """Read a run; a damaged one is reported and passed over."""
    try:
        return read(entry, weights=weights)
    except ValueError as error:
        warnings.warn(f"stored run {entry} is damaged and not used: {error}", stacklevel=3)
        return None


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock; others that want the same run wait and then find it finished.

    The file stays: removing it would let one process hold the removed file and the next a new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def describe_config(config: Any) -> dict[str, Any]:
    """Return every field of a config as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))
