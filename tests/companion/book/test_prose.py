"""No number of ours is typed into prose: decimals and percentages come from runs or are the paper's."""

import json
import re
from pathlib import Path

import pytest

from mfrbook.chapters.synthetic.runs import ALIKE_ACROSS, UNLIKE_INPUT
from mfrbook.pages.prose import PAGES, faults, of_markdown, of_page, of_site

# The published book, built once a session in a copy of the project.

PROJECT = Path(__file__).resolve().parents[3]

# Constants, not results: each with the file it may stand in.
ALLOWED = {
    ("claims.md", "95 %"),  # the level of every interval
    ("index.md", "95 %"),
    ("learned.md", "95 %"),
    ("synthetic-training.ipynb", "95 %"),
    ("readings.md", "2.5"),  # a threshold in the authors' code
    ("gpt2.ipynb", "0.9"),  # the cosine that counts as shared
    ("end-to-end.ipynb", "0.9"),
    ("eeg.ipynb", "0.5"),  # Hz, lower edge of the filter
    ("synthetic-similarity.ipynb", str(ALIKE_ACROSS)),  # the rule that names the cluster
    ("synthetic-similarity.ipynb", str(UNLIKE_INPUT)),
}

NUMBER = re.compile(r"(?<![\w.])\d+\.\d+(?:\s?%)?(?![\w.]*\d)|(?<![\w.])\d+\s?%")
# What is no prose, or no number: each piece is blanked, so that line numbers stay.
NO_PROSE = [
    re.compile(r"(?ms)^(`{3,})(?!\{(?:glossary|note|tip|warning|admonition)).*?^\1`*$"),  # blocks of code
    re.compile(r"\{\w+(?::\w+)*\}`[^`]*`"),  # roles: {val}, {paper}, {cite:p}
    re.compile(r"`[^`\n]*`"),  # code in a line
    re.compile(r"\]\([^)\s]*\)|<https?://[^>]*>"),  # where a link goes
    re.compile(r'(?<=\s)(?:src|href|width|height|class|style|id)="[^"]*"'),  # attributes of HTML, but for alt
    re.compile(r"(?:§+\s?|\b(?:[Ss]ections?|[Ee]quations?)\s)\d+(?:\.\d+)*"),  # sections of the paper
    re.compile(r"\barXiv:?\s?\d{4}\.\d{5}(?:v\d)?"),
]


def typed_numbers(text: str) -> list[tuple[int, str]]:
    """Return line and text of each decimal number and percentage typed into Markdown."""
    for pattern in NO_PROSE:
        text = pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    return [(text.count("\n", 0, found.start()) + 1, found[0]) for found in NUMBER.finditer(text)]


def prose() -> dict[str, str]:
    """Return the text of every page and of the text cells of every notebook."""
    pages = [*(PROJECT / "book").glob("*.md"), *(PROJECT / "book" / "api").glob("*.md")]
    found = {page.name: page.read_text(encoding="utf-8") for page in pages}
    for notebook in (PROJECT / "notebooks").glob("*.ipynb"):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        found[notebook.name] = "\n\n".join(texts)
    return found


def test_no_number_of_ours_is_typed_into_prose():
    pages = prose()
    assert "index.md" in pages
    found = [
        f"{name}:{line}: {number}"
        for name, text in pages.items()
        for line, number in typed_numbers(text)
        if (name, number) not in ALLOWED
    ]
    assert not found, "typed numbers; use {val} for ours, {paper} for the paper's:\n" + "\n".join(found)


def test_every_allowed_number_still_stands_there():
    pages = prose()
    assert {entry for entry in ALLOWED if entry[1] not in pages[entry[0]]} == set()


@pytest.mark.parametrize(
    "planted",
    [
        "The correlation is 0.51 here.",
        "MFR lowers the loss by 12 %.",
        "MFR lowers the loss by 2.4%.",
        "It rises from 0.3 to {paper}`0.625`.",
        "| baseline | 0.42 |",
        "so that $r = 0.51$ holds",
        '<img src="a.svg" alt="A line that falls to 0.2.">',
        "```{glossary}\nfeature\n  About 0.9 of them.\n```",
        "- a list with −0.5",
    ],
)
def test_a_planted_number_is_found(planted):
    assert typed_numbers("Some words.\n\n" + planted), planted


@pytest.mark.parametrize(
    "innocent",
    [
        "The paper has {paper}`0.625`, we {val}`similarity.r:.3f`.",
        "Section 3.1 and §3.3 of the paper; Figures 2 to 5; 36 of 42 features.",
        "`alpha=0.5` and arXiv 2411.01220.",
        "[a page](https://example.org/v1.2)",
        "```python\nx = 0.5\n```",
        "on 20 November 2026. Then 3 more.",
    ],
)
def test_what_is_no_result_is_left_alone(innocent):
    assert typed_numbers(innocent) == []


def test_a_sentence_that_says_we_cannot_tell_is_of_a_claim_that_we_cannot():
    ledger = {
        row["id"]: row["verdict"] for row in json.loads((PROJECT / "book/results/claims.json").read_text("utf-8"))
    }
    said = [
        (page.name, claim)
        for page in sorted((PROJECT / "book").glob("*.md"))
        for claim in re.findall(r"\bwe {verdict}`([^`]+)`", page.read_text(encoding="utf-8"))
    ]
    assert said
    assert [one for one in said if ledger[one[1]] != "cannot tell"] == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Word " * 31 + ".", "31 words"),
        ("Short. " + "Word " * 31 + "by Marks et al. in 2024.", "37 words"),
        ("The code (R12) divides.", "the code R12"),
        ("See Q10h.", "the code Q10h"),
        ("It rises by 0.12.", "0.12 without a unit"),
        ("It rises by 0.12 with the penalty. MMCS is something else.", "0.12 without a unit"),
    ],
)
def test_a_fault_of_prose_is_named(text, complaint):
    (fault,) = faults(text)
    assert complaint in fault


@pytest.mark.parametrize(
    "text",
    [
        "Word " * 30 + ". " + "Word " * 30 + ".",
        "MMCS rises by 0.12, and the loss falls by 1.5 % (95 % CI 0.5 to 2.5).",
        "L0 is k, a V100 is a GPU, and the text says § 3.1.",
        "The cost is 0.033 nats, or 0.5 to 45 Hz, or 0.5–45 Hz.",
        "R10b · When it is looked at",
    ],
)
def test_sound_prose_has_no_fault(text):
    assert faults(text) == []


def test_the_running_text_of_a_page_is_read(tmp_path):
    page = tmp_path / "a.html"
    page.write_text(
        '<nav><p>R1</p></nav><article class="bd-article"><h1>A title<a class="headerlink">#</a></h1>'
        "<p>Of <code>R2</code> and <b>S3</b>.</p><table><tr><td>Q4</td></tr></table>"
        '<figure><img src="a"><figcaption>E5 shows.<details>D6</details></figcaption></figure></article><p>G7</p>'
    )
    assert [one.split(":")[0] for one in of_page(page)] == ["the code S3", "the code E5"]


def test_the_prose_of_the_readme_has_no_fault():
    assert of_markdown((PROJECT / "README.md").read_text(encoding="utf-8")) == []


def test_the_running_text_of_markdown_is_read():
    text = "# A title\n\nSee `R2` and [R3](a.md).\n\n- It rises by 0.5.\n- `0.7` fits.\n\n```bash\nmake R4 0.5\n```\n\n| R5 |\n"
    assert [one.split(":")[0] for one in of_markdown(text)] == [
        "the code R3",
        "0.5 without a unit or a measure",
        "the code R5",
    ]


@pytest.mark.slow
def test_the_prose_of_home_chapters_and_notebooks_has_no_fault(built):
    assert list(of_site(built.site, PAGES)) == []
