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
from mfrbook.ledger.wording import effect, groups, number, stem, worded, wording
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
    assert tab.locator("output").inner_text().startswith(f"{len(expected)} rows")
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
