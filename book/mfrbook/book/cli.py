"""The command `mfr`."""

import argparse
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_type_hints

import mfrlib
from mfrbook.book import console
from mfrbook.book.edition import PUBLISHED
from mfrbook.chapters import registry
from mfrbook.experiments import sources
from mfrbook.experiments.values import config_class, listed, listed_fields, parse_pairs
from mfrbook.store.provenance import PROJECT, require_checkout
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
    options = _parser().parse_args(arguments)
    try:
        if options.call not in (_train, _about_train, _model):
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


def _values(options: argparse.Namespace, hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of one's own, with paths from the current folder: others read them in other folders."""
    return sources.resolved(parse_pairs(options.pairs, hints))


def _notebook_hints(*names: str) -> dict[str, Any]:
    """Return the types of the parameters of notebooks, by default of all."""
    from mfrbook.book import notebooks

    found = [notebooks.parameters(notebooks.find(name)) for name in names or notebooks.NAMES]
    return {name: one.hint for parameters in found for name, one in parameters.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mfr", description="Re-run the experiments, notebooks and book.")
    parser.add_argument("--version", action="version", version=f"mfrlib {mfrlib.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    def command(name: str, call: Any, help: str, profile: str = "quick", about: Any = None) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=help, description=help, add_help=about is None)
        if about:
            shown = "show this, and with a name all its parameters"
            one.add_argument("-h", "--help", dest="call", action="store_const", const=about, help=shown)
            one.set_defaults(parser=one)
        one.set_defaults(call=call)
        one.add_argument("--profile", choices=PROFILES, default=profile, help=f"size of the runs (default: {profile})")
        one.add_argument(
            "-p", dest="pairs", action="append", default=[], metavar="NAME=VALUE", help="a parameter of one's own"
        )
        return one

    run = command("run", _run, "execute one notebook", about=_about_run)
    run.add_argument("notebook", nargs="?", help="name of one in notebooks/, such as synthetic-similarity, or path")
    run.add_argument("-o", "--output", type=Path, help="where the executed notebook goes")
    train = command("train", _train, "compute one run into the store", about=_about_train)
    train.add_argument("experiment", nargs="?", help="one of: " + ", ".join(registry.NAMES))
    train.add_argument("--fresh", action="store_true", help="compute even if the run is in the store")
    ledger = command("claims", _claims, "print the ledger of claims", "published")
    ledger.add_argument(
        "--publish", action="store_true", help="write it to book/results/claims.json as well (profile published)"
    )
    book = command("book", _book, "execute the notebooks and build the book", "published")
    book.add_argument("--no-spot-checks", action="store_true", help="do not recompute the probes after the build")
    command("plan", _plan, "print the runs that the book's notebooks ask for, as JSON")
    about = "compute one run of a plan into the store, unless it is there"
    planned = commands.add_parser("compute", help=about, description=about)
    planned.set_defaults(call=_compute)
    planned.add_argument("plan", type=Path, help="file with the output of mfr plan")
    planned.add_argument("key", help="the run's key")
    planned.add_argument("--renew", action="store_true", help="even if it is there, if it is stale")
    about = "print the book, as last built, into _build/book.pdf"
    commands.add_parser("pdf", help=about, description=about).set_defaults(call=_pdf)
    about = "compute and archive the runs of the published book, those that are missing"
    archive = commands.add_parser("archive", help=about, description=about)
    archive.set_defaults(call=_archive)
    archive.add_argument("--jobs", type=int, help="runs at once (default: one for every core)")
    archive.add_argument("--renew", action="store_true", help="also those that are stale")
    archive.add_argument(
        "--adopt", type=Path, metavar="FOLDER", help="archive instead what another checkout's store holds"
    )
    about = "put a pretrained model into the user's cache, once, so that model=NAME works from then on"
    model = commands.add_parser("model", help=about, description=about)
    model.set_defaults(call=_model)
    model.add_argument("name", choices=["smollm2"], help="smollm2: SmolLM2-135M-Instruct in 4 bits, 540 MB")
    about = "recompute an archived run and say whether it comes out the same"
    verified = commands.add_parser("verify", help=about, description=about)
    verified.set_defaults(call=_verify)
    verified.add_argument("run", metavar="RUN", help="its key, or as much of it as tells it from others")
    verified.add_argument("-p", dest="pairs", action="append", default=[], metavar="NAME=VALUE",
                          help="what no archive knows, such as data=FOLDER")  # fmt: skip
    about = "recompute the probes, and say whether today's code behaves as the code that made the archive"
    probed = commands.add_parser("probes", help=about, description=about)
    probed.set_defaults(call=_probes)
    probed.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="which (default: all)")
    probed.add_argument("--record", metavar="REASON", help="record them anew; a sentence that says why numbers changed")
    return parser


def _run(options: argparse.Namespace) -> int:
    from mfrbook.book import hub, notebooks

    _require_name(options, "notebook")
    values = _values(options, _notebook_hints(options.notebook))
    hub.go_offline_if_silent(values)
    output = options.output or notebooks.output_path(options.notebook, values, options.profile)
    notebooks.execute(options.notebook, values, options.profile, output)
    print(output)
    return 0


def _train(options: argparse.Namespace) -> int:
    from mfrbook.book import hub

    _require_name(options, "experiment")
    experiment = registry.load(options.experiment)
    hints = get_type_hints(config_class(experiment))
    given = _values(options, hints)
    values = {name: value for name, value in given.items() if value is not None or name not in hints}
    hub.go_offline_if_silent(values)
    selects = {"preset"} & inspect.signature(experiment.configure).parameters.keys() & values.keys()
    selectors = {name: values.pop(name) for name in selects}
    run = experiment.run(experiment.configure(values, profile=options.profile, **selectors), fresh=options.fresh)
    print(json.dumps({"key": run.key, "stale": run.stale, **run.results}, indent=1))
    return 0


def _require_name(options: argparse.Namespace, what: str) -> None:
    if getattr(options, what) is None:
        options.parser.error(f"the following arguments are required: {what}")


def _about_train(options: argparse.Namespace) -> int:
    options.parser.print_help()
    if options.experiment:
        experiment = registry.load(options.experiment)
        shown = listed_fields(config_class(experiment), experiment.configure({}, profile=options.profile))
        print(f"\nparameters of {options.experiment}, with the defaults of profile {options.profile}:\n{shown}")
    return 0


def _about_run(options: argparse.Namespace) -> int:
    from mfrbook.book import notebooks

    options.parser.print_help()
    if options.notebook:
        shown = listed(tuple(one) for one in notebooks.parameters(notebooks.find(options.notebook)).values())
        print(f"\nparameters of {options.notebook}:\n{shown}")
    return 0


def _claims(options: argparse.Namespace) -> int:
    from mfrbook.ledger import claims

    if options.publish:
        require(options.profile == "published", "--profile", options.profile, "must be published with --publish")
        require(not options.pairs, "-p", options.pairs, "takes no value with --publish")
    rows = claims.ledger(options.profile, _values(options, _notebook_hints()))
    if options.publish:
        claims.save(rows, PROJECT / "book" / "results" / "claims.json")
    print(claims.text(rows))
    return 0


def _book(options: argparse.Namespace) -> int:
    from mfrbook.book import build as book

    page = book.build(options.profile, PROJECT, _values(options, _notebook_hints()))
    if options.profile != PUBLISHED or options.no_spot_checks:
        return 0
    from mfrbook.book import spot_checks

    print("spot checks: recomputing the probes on this machine", flush=True)
    found = spot_checks.run(page.parent)
    print("\n".join(one.line() for one in found if one.verdict == "changed"))
    print(spot_checks.sentence(found))
    return int(any(one.verdict == "changed" for one in found))


def _plan(options: argparse.Namespace) -> int:
    from mfrbook.book import plan

    print(json.dumps(asdict(plan.make(options.profile, _values(options, _notebook_hints()))), indent=1))
    return 0


def _compute(options: argparse.Namespace) -> int:
    from mfrbook.book import plan

    print(json.dumps(plan.from_file(options.plan).compute(options.key, renew=options.renew), indent=1))
    return 0


def _model(options: argparse.Namespace) -> int:
    from mfrbook.experiments import smollm2
    from mfrlib.language_models.pretrained import gguf

    folder = gguf.smollm2_folder()
    if gguf.origin(folder) != smollm2.SHA256:
        print(f"fetching {smollm2.ABOUT}", flush=True)
        smollm2.fetch(folder)
    print(f"model={options.name} is ready: {folder}")
    return 0


def _pdf(options: argparse.Namespace) -> int:
    from mfrbook.book import pdf

    print(pdf.write_pdf(PROJECT))
    return 0


def _archive(options: argparse.Namespace) -> int:
    from mfrbook.book import archive

    if options.adopt:
        taken, refused = archive.adopt(options.adopt)
        print("\n".join([*refused, f"{len(taken)} runs adopted, {len(refused)} refused"]))
        return int(bool(refused))
    failed = archive.fill(jobs=options.jobs, renew=options.renew)
    if failed:
        print(f"mfr: {len(failed)} runs failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def _verify(options: argparse.Namespace) -> int:
    from mfrbook.book import verify

    run = verify.find(options.run)
    hints = get_type_hints(config_class(registry.load(run.experiment)))
    found = verify.verify(run, _values(options, hints))
    print(found.report())
    return int(not found.same)


def _probes(options: argparse.Namespace) -> int:
    from mfrbook.probes import recompute

    if options.record:
        print("recorded: " + ", ".join(recompute.keep(options.record, options.experiments)))
        return 0
    start = time.perf_counter()
    found = recompute.probes(options.experiments)
    for one in found:
        print(one.line())
    agree = sum(one.verdict != "changed" for one in found)
    print(f"{agree} of {len(found)} probes agree ({time.perf_counter() - start:.0f} s)")
    return int(agree < len(found))
