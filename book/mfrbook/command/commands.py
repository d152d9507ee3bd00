"""What each command of `mfr` does: from its parsed options to its exit status."""

import argparse
import inspect
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, get_type_hints

from mfrbook.chapters import registry
from mfrbook.experiments import sources
from mfrbook.experiments.values import config_class, listed, listed_fields, parse_pairs
from mfrbook.store.provenance import PROJECT, commit
from mfrlib.config import checked, require


def run(options: argparse.Namespace) -> int:
    """Execute a notebook, render it as a page, and print where both lie."""
    from mfrbook.book import notebooks
    from mfrbook.command import hub

    _require_name(options, "notebook")
    values = _values(options, _notebook_hints(options.notebook))
    hub.go_offline_if_silent(values)
    output = options.output or notebooks.output_path(options.notebook, values, options.profile)
    notebooks.execute(options.notebook, values, options.profile, output)
    print(output)
    if not options.no_page:
        from mfrbook.pages import run_page

        name, own = notebooks.find(options.notebook).stem, output.resolve()
        in_book = own.is_relative_to(PROJECT / "book") or own.is_relative_to(PROJECT / "_build")
        page = run_page.write(own, name, PROJECT / "runs" / name if in_book else own.with_suffix(""), PROJECT)
        print(f"{page}\n{page.as_uri()}")
    return 0


def train(options: argparse.Namespace) -> int:
    """Compute one run, and print its results."""
    from mfrbook.command import hub

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


def about_train(options: argparse.Namespace) -> int:
    """Print the options, and an experiment's parameters where one is named."""
    options.parser.print_help()
    if options.experiment:
        experiment = registry.load(options.experiment)
        shown = listed_fields(config_class(experiment), experiment.configure({}, profile=options.profile))
        if preset := inspect.signature(experiment.configure).parameters.get("preset"):
            about = "a whole reading of data and method, which the other parameters change (R1)"
            shown = listed([("preset", Literal[tuple(experiment.PRESETS)], preset.default, about)]) + "\n" + shown
        print(f"\nparameters of {options.experiment}, with the defaults of profile {options.profile}:\n{shown}")
    return 0


def about_run(options: argparse.Namespace) -> int:
    """Print the options, and a notebook's parameters where one is named."""
    from mfrbook.book import notebooks

    options.parser.print_help()
    if options.notebook:
        shown = listed(tuple(one) for one in notebooks.parameters(notebooks.find(options.notebook)).values())
        print(f"\nparameters of {options.notebook}:\n{shown}")
    return 0


def claims(options: argparse.Namespace) -> int:
    """Print the ledger, and write it as the published one where asked."""
    from mfrbook.ledger import claims

    if options.publish:
        require(options.profile == "published", "--profile", options.profile, "must be published with --publish")
        require(not options.pairs, "-p", options.pairs, "takes no value with --publish")
    hints = _notebook_hints()
    values = _values(options, hints)
    checked(values, hints)
    rows = claims.ledger(options.profile, values)
    if options.publish:
        claims.save(rows, PROJECT / "book" / "results" / "claims.json")
    print(claims.text(rows))
    return 0


def book(options: argparse.Namespace) -> int:
    """Build the book, and check the published one's probes here; 1 if one has changed."""
    from mfrbook.pages import build as book
    from mfrbook.pages import spot_checks

    started = time.monotonic()
    edition = book.gather(options.profile, PROJECT, _values(options, _notebook_hints()))
    checks = spot_checks.begin() if edition.published and not options.no_spot_checks else None
    print("rendering the pages", flush=True)
    page = book.render(PROJECT, edition=edition)
    print(f"the book is ready after {time.monotonic() - started:.0f} s: {page}")
    if checks is None:
        return 0
    print("spot checks: recomputing the probes on this machine", flush=True)
    found = checks()
    print("\n".join(one.line() for one in found if one.verdict == "changed"))
    print(spot_checks.tell(page.parent, found))
    return int(any(one.verdict == "changed" for one in found))


def plan(options: argparse.Namespace) -> int:
    """Print the plan of runs as JSON."""
    from mfrbook.book import plan

    print(json.dumps(asdict(plan.make(options.profile, _values(options, _notebook_hints()))), indent=1))
    return 0


def compute(options: argparse.Namespace) -> int:
    """Compute one run of a plan."""
    from mfrbook.book import plan

    print(json.dumps(plan.from_file(options.plan).compute(options.key, renew=options.renew), indent=1))
    return 0


def model(options: argparse.Namespace) -> int:
    """Fetch a pretrained model unless it is here."""
    from mfrbook.experiments import smollm2
    from mfrlib.language_models.pretrained import gguf

    folder = gguf.smollm2_folder()
    if gguf.origin(folder) != smollm2.SHA256:
        print(f"fetching {smollm2.ABOUT}", flush=True)
        smollm2.fetch(folder)
    print(f"model={options.name} is ready: {folder}")
    return 0


def pdf(options: argparse.Namespace) -> int:
    """Print the built book, or its answer alone."""
    from mfrbook.pages import pdf

    print(pdf.write_summary(PROJECT) if options.summary else pdf.write_pdf(PROJECT))
    return 0


def prose(options: argparse.Namespace) -> int:
    """Print the faults of the prose of the built book and the README; 1 if there are any."""
    from mfrbook.pages import prose

    site = PROJECT / "_build" / "html"
    require((site / "index.html").is_file(), "prose", str(site), "must hold a built book: run make book first")
    found = list(prose.of_site(site, options.pages or prose.PAGES))
    if not options.pages:
        text = (PROJECT / "README.md").read_text(encoding="utf-8")
        found += [f"README: {fault}" for fault in prose.of_markdown(text)]
    print("\n".join([*found, f"{len(found)} faults"]))
    return int(bool(found))


def archive(options: argparse.Namespace) -> int:
    """Compute the published runs that are missing, or adopt another store's; 1 if one failed."""
    from mfrbook.book import archive

    if options.adopt:
        taken, refused = archive.adopt(options.adopt)
        print("\n".join([*refused, f"{len(taken)} runs adopted, {len(refused)} refused"]))
        return int(bool(refused))
    failed = archive.fill(jobs=options.jobs, renew=options.renew)
    if failed:
        print(f"mfr: {len(failed)} runs failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def verify(options: argparse.Namespace) -> int:
    """Recompute an archived run, and keep how it came out where asked; 1 if it differs."""
    from mfrbook.book import verify
    from mfrbook.pages import status

    run = verify.find(options.run)
    hints = get_type_hints(config_class(registry.load(run.experiment)))
    found = verify.verify(run, _values(options, hints))
    print(found.report())
    if options.record:
        status.record(PROJECT / "book" / "results", found, commit())
    return int(not found.same)


def probes(options: argparse.Namespace) -> int:
    """Recompute the probes, or record them anew; 1 if one has changed."""
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


def _values(options: argparse.Namespace, hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of one's own, with paths from the current folder: others read them in other folders."""
    return sources.resolved(parse_pairs(options.pairs, hints))


def _notebook_hints(*names: str) -> dict[str, Any]:
    """Return the types of the parameters of notebooks, by default of all."""
    from mfrbook.book import notebooks

    found = [notebooks.parameters(notebooks.find(name)) for name in names or notebooks.NAMES]
    return {name: one.hint for parameters in found for name, one in parameters.items()}
