"""The command `mfr`: its parser, and what a failure says and exits with."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mfrlib
from mfrbook.chapters import registry
from mfrbook.command import commands, console
from mfrbook.command.numbers import positive_integer
from mfrbook.store.provenance import require_checkout
from mfrbook.store.store import MissingRunsError
from mfrlib import environment
from mfrlib.config import ConfigError, require

PROFILES = ("smoke", "quick", "published")
# What is told in a line. Anything else is a mistake of ours, and keeps its traceback.
FAILURES = (
    *(RuntimeError, OSError, ValueError, MissingRunsError, MemoryError),
    ImportError,  # of an extra that is not installed
    subprocess.TimeoutExpired,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `mfr` and return its exit status: 1 where something failed, 2 where something asked for does not exist."""
    console.make_safe()
    options = parser().parse_args(arguments)
    try:
        require(
            _current_folder_exists(),
            "current folder",
            os.environ.get("PWD", ""),
            "must not be deleted; `cd` to one that is there",
        )
        if options.call not in (commands.train, commands.about_train, commands.model):
            require_checkout(f"mfr {options.command}")
        return options.call(options)
    except ConfigError as error:
        print(f"mfr: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        needs = environment.advice(error) or f"the package {missing}: pip install ./book, in a checkout of the project"
        print(f"mfr: mfr {options.command} needs {needs}" if missing else f"mfr: {error}", file=sys.stderr)
        return 1
    except FAILURES as error:
        print(f"mfr: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mfr: interrupted; finished runs and the last checkpoint are kept", file=sys.stderr)
        return 130


def _current_folder_exists() -> bool:
    """Tell whether the folder that the command runs in is still there: PyTorch's libraries end the process without it."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line, `COMMAND` being the action that holds those of the commands."""
    whole = argparse.ArgumentParser(prog="mfr", description="Re-run the experiments, notebooks and book.")
    whole.add_argument("--version", action="version", version=f"mfrlib {mfrlib.__version__}")
    subparsers = whole.add_subparsers(required=True, metavar="COMMAND", dest="command")

    def plain(name: str, call: Any, help: str, **options: Any) -> argparse.ArgumentParser:
        one = subparsers.add_parser(name, help=help, description=help, **options)
        one.set_defaults(call=call)
        return one

    def command(name: str, call: Any, help: str, profile: str = "quick", about: Any = None) -> argparse.ArgumentParser:
        one = plain(name, call, help, add_help=about is None)
        if about:
            shown = "show this, and with a name all its parameters"
            one.add_argument("-h", "--help", dest="call", action="store_const", const=about, help=shown)
            one.set_defaults(parser=one)
        one.add_argument("--profile", choices=PROFILES, default=profile, help=f"size of the runs (default: {profile})")
        one.add_argument(
            "-p", dest="pairs", action="append", default=[], metavar="NAME=VALUE", help="a parameter of one's own"
        )
        return one

    run = command("run", commands.run, "execute one notebook", about=commands.about_run)
    run.add_argument("notebook", nargs="?", help="name of one in notebooks/, such as synthetic-similarity, or path")
    run.add_argument("-o", "--output", type=Path, help="where the executed notebook goes")
    run.add_argument("--no-page", action="store_true", help="do not render it as a page")
    train = command("train", commands.train, "compute one run into the store", about=commands.about_train)
    train.add_argument("experiment", nargs="?", help="one of: " + ", ".join(registry.NAMES))
    train.add_argument("--fresh", action="store_true", help="compute even if the run is in the store")
    ledger = command("claims", commands.claims, "print the ledger of claims", "published")
    ledger.add_argument(
        "--publish", action="store_true", help="write it to book/results/claims.json as well (profile published)"
    )
    book = command("book", commands.book, "execute the notebooks and build the book", "published")
    book.add_argument("--no-spot-checks", action="store_true", help="do not recompute the probes after the build")
    command("plan", commands.plan, "print the runs that the book's notebooks ask for, as JSON")
    planned = plain("compute", commands.compute, "compute one run of a plan into the store, unless it is there")
    planned.add_argument("plan", type=Path, help="file with the output of mfr plan")
    planned.add_argument("key", help="the run's key")
    planned.add_argument("--renew", action="store_true", help="even if it is there, if it is stale")
    printed = plain("pdf", commands.pdf, "print the book, as last built, into _build/book.pdf")
    printed.add_argument("--summary", action="store_true", help="its answer on one page, into _build/summary.pdf")
    prose = plain(
        "prose",
        commands.prose,
        "report long sentences, codes and numbers without a unit in the running text of the book, as last built",
    )
    prose.add_argument(
        "pages",
        nargs="*",
        metavar="PAGE",
        help="such as index or executed/eeg (default: home, chapters, notebooks, guides, and the README)",
    )
    archive = plain(
        "archive", commands.archive, "compute and archive the runs of the published book, those that are missing"
    )
    archive.add_argument("--jobs", type=positive_integer, help="runs at once (default: one for every core)")
    archive.add_argument("--renew", action="store_true", help="also those that are stale")
    archive.add_argument(
        "--adopt", type=Path, metavar="FOLDER", help="archive instead what another checkout's store holds"
    )
    model = plain(
        "model",
        commands.model,
        "put a pretrained model into the user's cache, once, so that model=NAME works from then on",
    )
    model.add_argument("name", choices=["smollm2"], help="smollm2: SmolLM2-135M-Instruct in 4 bits, 540 MB")
    verified = plain("verify", commands.verify, "recompute an archived run and say whether it comes out the same")
    verified.add_argument("run", metavar="RUN", help="its key, or as much of it as tells it from others")
    verified.add_argument("-p", dest="pairs", action="append", default=[], metavar="NAME=VALUE",
                          help="what no archive knows, such as data=FOLDER")  # fmt: skip
    verified.add_argument("--record", action="store_true", help="keep the outcome for the book's page on status")
    probed = plain(
        "probes",
        commands.probes,
        "recompute the probes, and say whether today's code behaves as the code that made the archive",
    )
    probed.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="which (default: all)")
    probed.add_argument("--record", metavar="REASON", help="record them anew; a sentence that says why numbers changed")
    return whole
