"""Faults of prose that a program can see: long sentences, codes in running text, decimals without unit or measure."""

import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

PAGES = (
    *("index", "method", "synthetic", "language-models", "features", "end-to-end", "eeg", "denoising"),
    *("learned", "corrections", "claims", "questions", "rerun", "take-away", "scaling", "performance"),
    *("end-to-end-features", "status", "glossary", "changelog", "paper-figures", "readings"),
    *("executed/synthetic-similarity", "executed/synthetic-training", "executed/synthetic-questions"),
    *("executed/synthetic-readings", "executed/gpt2", "executed/end-to-end", "executed/eeg", "executed/denoising"),
)
"""Home, results, notebooks, guides and what is about the book; not lists, such as the API and the references."""
LONGEST = 30
"""Words of a sentence, at most."""
_ENDS = re.compile(r"(?<=[.!?])[\"”’)\]]*\s+(?=[\"“‘(\[]*[A-Z0-9−α-ω])")
_ABBREVIATED = re.compile(r"\b(?:e\.g|i\.e|cf|vs|al|Fig|Figs|Eq|No|approx)\.\s*$")
_CODE = re.compile(r"(?<![\w.-])[RSQGED]\d{1,2}[a-z]?(?![\w-])")
_LABEL = re.compile(r"^[A-Z]\d{1,2}[a-z]? · ")  # what a heading of the readings is found by
_DECIMAL = re.compile(r"(?<![\w.§])[−+-]?\d+\.\d+(?!\w|\.\d)")
_UNIT = re.compile(
    r"^(?:,? to [−+]?[\d.]+|–[\d.]+|(?: or| and| against)(?: [−\d.]+))*\s*(?:%|percent|nats|dB|Hz|kHz|s\b|ms|minutes|hours|µV|V\b|times|bits|epochs|"
    r"points|features|GiB|GB|MB|kB)"
)
_MEASURES = re.compile(
    r"\b(?:MMCS|similarity|similarities|cosines?|[Cc]orrelations?|correlates?|distances?|r|FVU|coherence|shares?|threshold|inactivity|odds|"
    r"chance|area under the curve|AUC|[Ss]ections?|[Ii]n (?:nats|dB)|[Ii]nactivity|[Ll]oss(?=:| \d| at the end)|rates?|L0|versions?|error|learning|Python|ODC-By|p)\b|[αλβ]|\bx = "
)
_MARKUP = (
    (re.compile(r"(?ms)^```.*?^```"), ""),
    (re.compile(r"<[^>]*>"), ""),
    (re.compile(r"`[^`]*`"), " x "),
    (re.compile(r"\[([^\]]*)\]\([^)]*\)"), r"\1"),
    (re.compile(r"[*_#]"), ""),
    (re.compile(r"\barXiv \d+\.\d+"), "arXiv"),
)
"""What is no running text of Markdown, and what stands instead."""
_BLOCKS = {"p", "li", "dd", "dt", "figcaption", "h1", "h2", "h3"}
_SKIPPED = {"table", "pre", "script", "style", "details", "nav", "button", "svg", "form"}
_LISTS = {"mfr-features", "mfr-strip", "math-wrapper", "headerlink"}  # classes of what is no running text
_VOID = {"img", "br", "hr", "input", "meta", "link", "source", "wbr", "col"}


def faults(paragraph: str) -> list[str]:
    """Return what is wrong with a paragraph of running text, each as a sentence."""
    found = []
    for sentence in sentences(paragraph):
        start = sentence if len(sentence) <= 60 else sentence[:57] + "…"
        if (n := len([word for word in sentence.split() if re.search(r"\w", word)])) > LONGEST:
            found.append(f"{n} words: {start}")
        found += [f"the code {code}: {start}" for code in _CODE.findall(_LABEL.sub("", sentence))]
        bare = [one[0] for one in _DECIMAL.finditer(sentence) if not _UNIT.match(sentence[one.end() :])]
        if bare and not _MEASURES.search(sentence):
            found.append(f"{', '.join(bare)} without a unit or a measure: {start}")
    return found


def sentences(paragraph: str) -> list[str]:
    """Split a paragraph into sentences."""
    found: list[str] = []
    for part in _ENDS.split(" ".join(paragraph.split())):
        if found and _ABBREVIATED.search(found[-1]):
            found[-1] += " " + part
        elif part:
            found.append(part)
    return found


def of_page(page: Path) -> list[str]:
    """Return the faults of the running text of a built page: no tables, no code, no provenance; a formula is one word."""
    return [fault for one in paragraphs(page) for fault in faults(one)]


def paragraphs(page: Path, *, code: bool = False) -> list[str]:
    """Return the paragraphs of a built page's running text. `code`: with the code in them instead of an x."""
    reader = _Paragraphs(code)
    reader.feed(page.read_text(encoding="utf-8"))
    return [" ".join(one.split()) for one in reader.found if one.strip()]


def of_markdown(text: str) -> list[str]:
    """Return the faults of a page that no book has, such as the README: its paragraphs and list items."""
    for pattern, instead in _MARKUP:
        text = pattern.sub(instead, text)
    return [fault for one in re.split(r"\n\s*\n|\n(?=[-#|])", text) for fault in faults(one)]


def of_site(site: Path, pages: Sequence[str]) -> Iterator[str]:
    """Yield the faults of pages of a built book, each with its page."""
    for name in pages:
        yield from (f"{name}: {fault}" for fault in of_page(site / f"{name}.html"))


class _Paragraphs(HTMLParser):
    """The paragraphs of an article."""

    def __init__(self, code: bool) -> None:
        super().__init__()
        self.code = code
        self.found: list[str] = []
        self._open: list[tuple[str, str]] = []  # tags, and why their text counts or not

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _VOID:
            return
        classes = (dict(attrs).get("class") or "").split()
        inside = self._open[-1][1] if self._open else "outside"
        if tag == "article" and "bd-article" in classes:
            inside = "text"
        elif tag in _SKIPPED or _LISTS.intersection(classes) or (tag == "div" and "math" in classes):
            inside = "skipped"
        elif inside == "text" and ((tag == "code" and not self.code) or "math" in classes):
            self._say(" x ")
            inside = "skipped"
        if tag in _BLOCKS and inside == "text":
            self.found.append("")
        self._open.append((tag, inside))

    def handle_endtag(self, tag: str) -> None:
        while self._open and tag in {one for one, _ in self._open}:
            last, inside = self._open.pop()
            if last in _BLOCKS and inside == "text":
                self.found.append("")
            if last == tag:
                break

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][1] == "text":
            self._say(data)

    def _say(self, text: str) -> None:
        if self.found:
            self.found[-1] += text
