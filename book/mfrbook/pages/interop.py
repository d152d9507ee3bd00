"""The page of what other libraries make of our SAEs, and we of theirs: `book/results/interop.json` as tables."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mfrbook.drawing.markdown import table
from mfrbook.store.provenance import in_words

WAYS = {"ours there": "ours, opened there", "theirs here": "theirs, opened here"}


def write(project: Path, executed: Path) -> None:
    """Write the measured part of the page, `book/executed/interop.md`, from `book/results/interop.json`."""
    source = project / "book" / "results" / "interop.json"
    text = page(json.loads(source.read_text(encoding="utf-8"))) if source.is_file() else "Not measured.\n"
    (executed / "interop.md").write_text(text, encoding="utf-8")


def page(found: Mapping[str, Any]) -> str:
    """Return sentences and tables of what was measured, as Markdown."""
    made, lm, beside = found["made"], found["language model"], found["made"]["beside"]
    libraries = {name: one for name, one in found.items() if name not in ("made", "language model")}
    rows = [
        [
            f"{name} {one['versions'][name]}",
            f"{row['sae']} ({WAYS[row['way']]})",
            row["k"] or "–",
            f"{row['difference'] / row['scale']:.1e}",
            f"{row['rows_with_negatives']} of {row['rows']}" if row["rows_with_negatives"] else "none",
        ]
        for name, one in libraries.items()
        for row in one["rows"]
    ]
    numbers = {"ours": ".4f", "theirs": ".4f", "difference": ".0e", "with_bos_replaced": ".4f", "unmodified": ".4f"}
    losses = [[row["sae"], *(format(row[name], form) for name, form in numbers.items())] for row in lm["rows"]]
    lines = [
        f"Measured on {made['date']} with {in_words(made['versions'])}. Beside SAELens, with transformer-lens "
        f"{beside['transformer-lens']}, {beside['passed']} tests of language models pass too. Another {beside.get('skipped', 0)} "
        "were left out: they are slow, or need data that are not there.",
        "",
        "Largest difference of an entry of a reconstruction, as a share of the largest entry:",
        "",
        table(["Library", "SAE", "k", "Difference", "Rows with negative activations"], rows),
        f"Cross-entropy of `{lm['model']}` with our SAEs at `{lm['hook']}`, in nats per token, on {lm['sequences']} sequences. The SAEs were "
        f"inserted by SAELens's own hooks and by ours ({in_words(lm['versions'])}).",
        "",
        table(
            ["SAE", "Ours", "SAELens", "Largest difference", "SAELens, first position replaced too", "Without an SAE"],
            losses,
        ),
    ]
    return "\n".join(lines)
