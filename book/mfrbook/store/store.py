"""The store of runs: content-addressed, in two roots, the archive and a local cache."""

import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from mfrbook.store.behaviour import marks
from mfrbook.store.provenance import PROJECT, provenance
from mfrbook.store.runs import CHECKSUMS, Run, read, run_key, write
from mfrlib.config import ConfigError, key_fields
from mfrlib.data.files import locked
from mfrlib.environment import cache_folder

BEHAVIOUR = "behaviour.json"  # beside a checkpoint: what made it


class MissingRunsError(LookupError):
    """Runs that a profile which never trains needs are not in the archive; the message lists them, a line each."""


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

    def existing(self, experiment: str, config: Any, data_id: str) -> Run:
        """Return the finished run.

        Raises
        ------
        MissingRunsError
            If it is not there.
        """
        if found := self.get(experiment, config, data_id):
            return found
        raise _missing(experiment, config, data_id)

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
        absent: str = "",
    ) -> Run:
        """Return the stored run, or compute, store and return it.

        Parameters
        ----------
        function
            Called with the folder of the unfinished run (which may hold a checkpoint); returns the run.
        fresh
            Compute even if the run is there.
        absent
            Says that the data are not here, and only the archive's name for them is known: the archive alone answers.

        Raises
        ------
        ConfigError
            If the data are absent, and the archive has no such run.
        MissingRunsError
            If the run is not there, and the store does not train.
        OSError
            If the store cannot be written.
        """
        from mfrlib.training import parallel  # takes torch, which whoever only plans does without

        if absent and self.trains:
            archived = self.roots[:-1]
            found = Store(*archived, renew=self.renew).get(experiment, config, data_id) if archived else None
            if found and not fresh:
                return found
            raise ConfigError(absent)
        key = run_key(experiment, config, data_id)
        unfinished, team = self.cache / "unfinished" / key, parallel.team()
        if not team.leads:  # the first process holds the lock, decides and writes; the others help to compute
            if team.agree():
                function(unfinished)
                team.agree()
            found = self.get(experiment, config, data_id)
            assert found is not None
            return found
        if not fresh and (found := self.get(experiment, config, data_id)):
            team.agree(False)
            return found
        if not self.trains:
            raise _missing(experiment, config, data_id)
        with _locked(self.cache / "locks" / key):
            if not fresh and (found := self.get(experiment, config, data_id)):
                team.agree(False)
                return found  # another process computed it while this one waited
            _prepare(unfinished, experiment, fresh)
            team.agree(True)
            start = time.perf_counter()
            try:
                run = function(unfinished)
            except BaseException:
                if {one.name for one in unfinished.iterdir()} <= {BEHAVIOUR, "config.json"}:  # nothing to go on with
                    shutil.rmtree(unfinished)
                raise
            run.key = key
            run.provenance |= provenance(experiment) | {"wall_seconds": round(time.perf_counter() - start, 2)}
            write(run, self.cache / experiment / key, unfinished)  # which goes, with whatever a killed process left
            team.agree()
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


def _missing(experiment: str, config: Any, data_id: str) -> MissingRunsError:
    key = run_key(experiment, config, data_id)
    return MissingRunsError(f"not in the archive: {experiment} {key} {key_fields(config)}")


def _read_sound(entry: Path, *, weights: bool = True) -> Run | None:
    """Read a run; a damaged one is reported and passed over."""
    try:
        return read(entry, weights=weights)
    except ValueError as error:
        warnings.warn(f"stored run {entry} is damaged and not used: {error}", stacklevel=3)
        return None


def _prepare(unfinished: Path, experiment: str, fresh: bool) -> None:
    """Empty the folder of an unfinished run, unless there is something to go on with: never of code that behaved otherwise."""
    mark, behaviour = unfinished / BEHAVIOUR, json.dumps(marks(experiment))
    if fresh or not mark.exists() or mark.read_text() != behaviour:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        mark.write_text(behaviour)


def _locked(path: Path) -> AbstractContextManager[object]:
    """Hold a lock; others that want the same run wait and then find it finished."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return locked(path, -1)
    except OSError as error:
        reason = f"{error.strerror or error}, at {error.filename or path}"
        raise OSError(f"the store cannot be written ({reason}): set MFR_CACHE to a folder of your own") from error


@contextmanager
def temporary_cache() -> Iterator[Path]:
    """Have an empty cache for a while: nothing in it is taken for recomputed, as some runs are worked out from weights of others."""
    before = os.environ.get("MFR_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MFR_CACHE"] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["MFR_CACHE"]
            else:
                os.environ["MFR_CACHE"] = before
