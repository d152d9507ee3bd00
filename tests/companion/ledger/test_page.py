"""The ledger as a reader meets it: an address for every row, the same rows everywhere, filters in a real browser."""

import csv
import io
import json
import re

import pytest

from mfrbook.ledger import page
from mfrbook.ledger.measures import MEASURES
from mfrbook.ledger.page import bar
from mfrbook.ledger.verdicts import load_claims
from mfrbook.ledger.wording import (
    Group,
    data_words,
    differs,
    effect,
    groups,
    leans_on,
    number,
    reading_words,
    sentence,
    size,
    stem,
    worded,
    wording,
)
from mfrbook.store.provenance import PROJECT
from tests.companion.book.test_built_book import open_page

ROWS = json.loads((PROJECT / "book" / "results" / "claims.json").read_text(encoding="utf-8"))
PAGES = {False: page.page(ROWS), True: page.page(ROWS, questions=True)}


def names(text):
    return re.findall(r'\bid="([^"]+)"', text)


@pytest.mark.parametrize("questions", [False, True])
def test_every_row_has_one_address_and_what_json_says(questions):
    text, wanted = PAGES[questions], [row for row in ROWS if (row["section"] == "questions") is questions]
    assert len(names(text)) == len(set(names(text)))
    assert {row["id"] for row in wanted} <= set(names(text))
    shown = re.findall(r'<div class="mfr-row"(?: id="[^"]+")? data-verdict="([^"]+)"', text)
    assert sorted(shown) == sorted(row["verdict"] for row in wanted)
    assert len(text) < 150_000


def test_csv_is_json():
    found = list(csv.DictReader(io.StringIO(page.table(ROWS))))
    assert [row["id"] for row in found] == [row["id"] for row in ROWS]
    for mine, row in zip(found, ROWS, strict=True):
        assert [mine["low"], mine["high"]] == [str(one) for one in row["ci"] or ("", "")]
        assert (mine["verdict"], mine["reason"]) == (row["verdict"], row["reason"])
        assert mine["ours"] == ("" if row["ours"] is None else str(row["ours"]))


def test_a_screen_of_claims():
    found = groups(worded(ROWS), False)
    assert len(found) <= 30
    assert {name for group in found for name in [group.stem]} == {
        stem(row["id"]) for row in ROWS if row["section"] != "questions"
    }
    measured = [group for group in found if any(row["ours"] is not None for row in group.rows)]
    assert all(group.lead["ours"] is not None for group in measured)


def test_wording_is_of_rows_and_measures_that_exist():
    said = wording()
    assert set(said["short"]) <= {stem(row["id"]) for row in load_claims()}
    assert set(said["unit"]) <= MEASURES.keys()
    assert {name for about in said["figure"].values() for name in about["claims"]} <= set(said["short"])
    assert {*said["leans"], *said["leans"].values(), *said["differs"]} <= {row["id"] for row in load_claims()}


def row(**given):
    plain = {
        "ours": 0.2,
        "ci": [0.1, 0.3],
        "value": None,
        "margin": None,
        "level": None,
        "side": None,
        "unit": "",
        "verdict": "opposite",
    }
    return plain | given


def test_what_counts_for_a_claim_is_shaded_and_the_papers_number_marked():
    assert bar(row(ours=None)) == ""
    inside = re.search(r'class="zone" x="([0-9.]+)" width="([0-9.]+)"', bar(row(ci=[-0.3, 0.3], value=0.1)))
    assert float(inside[1]) + float(inside[2]) == pytest.approx(170)
    assert float(inside[1]) == pytest.approx(85)
    level = bar(row(margin=0.05, level=0.0, ci=[-1.0, 1.0]))
    assert float(re.search(r'class="zone" x="[0-9.]+" width="([0-9.]+)"', level)[1]) == pytest.approx(
        158 * 0.05, abs=0.1
    )
    assert "the paper has" not in bar(row())
    assert "zone" not in bar(row(verdict="answered"))


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [(0.024, "%", "2.4 %"), (-3.8171, "%", "−382 %"), (0.625, "", "0.62"), (15, "features", "15 features")],
)
def test_numbers_have_two_digits_and_a_unit(value, unit, said):
    assert number(value, unit) == said


@pytest.mark.parametrize(
    ("ours", "ci", "said"),
    [
        (0.2, [0.1, 0.3], "20 % (10 to 30)"),
        (0.17937, [0.17503, 0.18371], "17.9 % (17.5 to 18.4)"),
        (0.0256, [0.0256, 0.0256], "2.6 %"),
    ],
)
def test_an_interval_is_never_shown_as_a_point(ours, ci, said):
    assert effect(row(ours=ours, ci=ci, unit="%")) == said


@pytest.mark.parametrize("questions", [False, True])
def test_the_heading_counts_what_is_seen(questions):
    seen, rows = len(groups(worded(ROWS), questions)), sum((row["section"] == "questions") is questions for row in ROWS)
    assert f"<legend>{seen} {'questions' if questions else 'claims'}, {rows} tests</legend>" in PAGES[questions]


def test_a_claim_that_leans_on_others_is_quoted_with_them():
    rows = {row["id"]: row for row in load_claims()}
    vague = re.compile(r"(The same|And|As [A-Z]\d|That of|More than)\b")
    alone = [name for name, row in rows.items() if vague.match(row["claim"]) and not leans_on(row, rows)]
    assert alone == []
    for name in rows:
        seen = [name]
        while following := leans_on(rows[seen[-1]], rows):
            seen.append(following)
            assert len(set(seen)) == len(seen) <= 4
    assert leans_on(rows["Q15tb"], rows) == "Q15t"
    assert leans_on(rows["S8-printed"], rows) == "S8"
    assert leans_on(rows["D1md"], rows) == "D1d"


def test_a_number_in_a_sentence_has_the_unit_and_the_sign_of_the_page():
    ledger = [
        row(id="Q15t", section="questions", claim="Do both find more together?", verdict="no", n_seeds=5, over="seeds", scale=0.5),
        row(id="Q15tb", section="questions", claim="And than alone? (the same rise)", ours=-0.032, ci=[-0.05, -0.014], verdict="no",
            n_seeds=5, over="seeds", scale=0.5),
        row(id="G1ma", section="gpt2", claim="Lower.", unit="%", ours=None, verdict="not tested", reason="No weights.", scale=None),
    ]  # fmt: skip
    assert sentence("Q15tb", ledger, "points", turned=True) == (
        "We measured 3.2 percentage points (95 % interval 1.4 to 5; 5 seeds, 50 % of the paper's samples), in the opposite "
        "direction to the question “Do both find more together? – And than alone?”; answer: no. [Q15tb]"
    )
    assert sentence("Q15tb", ledger, "").startswith("We measured −0.032 (95 % interval −0.05 to −0.014; 5 seeds")
    assert sentence("G1ma", ledger) == "Not tested, the claim “Lower”. No weights. [G1ma]"


def group(lead, *others):
    found = [row(id=name, verdict=said, reading=reading) for name, said, reading in (lead, *others)]
    return Group("S7", "", found[0], found)


@pytest.mark.parametrize(
    ("lead", "others", "said"),
    [
        ("cannot tell", [("S7-printed", "opposite", "as-printed"), ("S7-first", "opposite", "first-edition")], "as printed: no"),
        ("same direction", [("G1s", "opposite", "as-released"), ("G1a", "reproduced", "as-released")], "toy model: no"),
        ("opposite", [("D5n", "same direction", "as-released"), ("D5g", "same direction", "as-released")], "fewer features: yes"),
        ("opposite", [("E2f", "same direction", "as-released"), ("E2m", "opposite", "as-released")], "1 of 2 tests: yes"),
        ("cannot tell", [("S3w", "reproduced", "as-released"), ("S3p", "opposite", "as-released")], "tests: 1 yes, 1 no"),
        ("reproduced", [("S6s", "cannot tell", "as-printed")], ""),
    ],
)  # fmt: skip
def test_a_folded_row_tells_of_contrary_ones_in_a_line(lead, others, said):
    assert differs(group(("S7", lead, "as-released"), *others)) == said


def test_no_folded_row_hides_a_contrary_one():
    found = {group.stem: differs(group) for group in groups(worded(ROWS), False)}
    assert found["S7"] == "as printed: no"
    assert found["E1"] == "stopped early: no"
    assert all(len(said) <= 20 for said in found.values())
    assert 'href="questions.html#E1s"' in PAGES[False]


@pytest.mark.parametrize(
    ("ours", "value", "verdict", "said"),
    [
        (1.34, 121.45, "same direction", "1/91 of the paper's size"),
        (0.179, 0.0566, "same direction, larger", "3.2 times the paper's size"),
        (0.1, 0.2, "same direction", ""),
        (0.01, 0.2, "reproduced", ""),
        (-0.5, 0.1, "opposite", ""),
        (0.2, None, "same direction", ""),
    ],
)
def test_a_size_far_from_the_papers_is_said_beside_the_verdict(ours, value, verdict, said):
    assert size(row(ours=ours, value=value, verdict=verdict)) == said


def test_what_a_program_wrote_is_said_in_words():
    assert data_words("lm:smollm2:web-articles:train") == "activations of SmolLM2 on web articles"
    assert (
        data_words("eeg:eegmat:single:250Hz:0.5-45Hz:train")
        == "EEG of EEGMAT, each channel by itself, 250 Hz, 0.5 to 45 Hz"
    )
    assert data_words("eeg:a:single:250Hz:0.5-45Hz:seconds=4:train") == "eeg:a:single:250Hz:0.5-45Hz:seconds=4:train"
    assert reading_words("R9, R10: as-released, taken whole") == "the released code, taken whole (R9, R10)"
    for text in PAGES.values():
        assert not re.search(r"Data: \w+:", text)
        assert text.count("at every start") <= 1
        assert "MFR is the penalty alone here.*" in text


@pytest.fixture
def opened(tmp_path, browser):
    static = PROJECT / "book" / "_static"
    styles = "".join(
        f"<style>{(static / name).read_text(encoding='utf-8')}</style>" for name in ("custom.css", "ledger.css")
    )
    script = f"<script>{(static / 'ledger.js').read_text(encoding='utf-8')}</script>"
    (tmp_path / "claims.html").write_text(
        f"<!DOCTYPE html><title>x</title>{styles}{script}<main>{PAGES[False]}</main>", "utf-8"
    )

    def visit(address="", width=1280):
        tab, wrong = open_page(browser, width=width)
        tab.goto((tmp_path / "claims.html").as_uri() + address)
        return tab, wrong

    return visit


@pytest.mark.slow
def test_filters_work_by_keyboard_and_say_how_many(opened):
    tab, wrong = opened()
    expected = [one for one in ROWS if one["section"] != "questions" and one["verdict"] == "opposite"]
    tab.locator('input[value="opposite"]').focus()
    tab.keyboard.press("Space")
    assert tab.locator(".mfr-row:visible").count() == len(expected)
    claims = len({stem(one["id"]) for one in expected})
    assert tab.locator("output").inner_text() == f"{claims} claims, {len(expected)} tests"
    tab.locator("select[name=paper]").select_option("e2e")
    assert tab.locator(".mfr-row:visible").count() == sum(one["section"] == "end-to-end" for one in expected)
    tab.get_by_role("button", name="Show all").press("Enter")
    tab.wait_for_function("!document.querySelector('.mfr-ledger li[hidden]')")
    assert not wrong


@pytest.mark.slow
def test_an_address_unfolds_its_row(opened):
    tab, _ = opened("#S8-first")
    assert tab.locator("#S8-first").is_visible()
    assert not tab.locator("#S7 .c-body").is_visible()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 420])
def test_no_column_is_off_the_screen(opened, width):
    tab, _ = opened(width=width)
    assert tab.evaluate("document.scrollingElement.scrollWidth") <= width
    tab.locator("summary").first.press("Enter")
    assert tab.locator("#S1 .c-body").is_visible()
    assert tab.evaluate("document.scrollingElement.scrollWidth") <= width
