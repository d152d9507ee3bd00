"""Spot checks of a built book: the probes, recomputed on the reader's machine, and what the pages say of them."""

import html
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mfrbook.probes import recompute
from mfrbook.probes.compare import Judged

MARK = '<span class="mfr-spot-checks">'
_PAGES = ("index.html", "status.html")


def begin() -> Callable[[], list[Judged]]:
    """Begin to recompute the probes, behind the rendering of the pages, which takes one core; return what waits for them."""
    beside = ThreadPoolExecutor(1)
    found = beside.submit(recompute.probes, behind=True)
    beside.shutdown(wait=False)
    return found.result


def tell(site: Path, found: Sequence[Judged]) -> str:
    """Let the home page and the status page of a built book say how the spot checks came out, and return what they say."""
    said = sentence(found)
    for name in _PAGES:
        page = site / name
        text = page.read_text(encoding="utf-8")
        before, mark, rest = text.partition(MARK)
        if mark:
            page.write_text(
                before + mark + html.escape(said) + "</span>" + rest.partition("</span>")[2], encoding="utf-8"
            )
    (site / "spot-checks.json").write_text(json.dumps([vars(one) for one in found], indent=1), encoding="utf-8")
    return said


def sentence(found: Sequence[Judged]) -> str:
    """Say in a sentence how many spot checks came out as recorded, and which did not."""
    n = len(found)
    same = sum(one.verdict == "identical" for one in found)
    changed = [f"{one.experiment} ({one.name})" for one in found if one.verdict == "changed"]
    if changed:
        return f"{n - len(changed)} of {n} spot checks agree on this machine. These differ: {', '.join(changed)}."
    if same == n:
        return f"{n} of {n} spot checks are identical on this machine."
    others = "; ".join(dict.fromkeys(other for one in found for other in one.others))
    return f"{n} of {n} spot checks agree on this machine: {same} identical, the others within rounding ({others})."
