"""The page of features: whole, escaped, light, and as a browser shows it."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from mfrbook.drawing.features import page as feature_page
from mfrbook.drawing.features.description import Feature, Passage
from mfrbook.drawing.features.page import Shown
from mfrbook.drawing.features.retouch import retouched
from mfrlib.models.relu_sae import ReLUSAE

# A real browser, and what goes wrong in it.
from tests.companion.book.test_built_book import PHONE, open_page

HOOK = "blocks.1.hook_resid_pre"
HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "&amp;", "</style>", "\n", "\x07", "�"]


@pytest.fixture(scope="module")
def made(tiny_lm):
    """Two stacks of one SAE, and sequences."""
    draws = torch.Generator().manual_seed(0)
    shown = []
    for name in ("Local", "End-to-end"):
        sae = ReLUSAE(1, tiny_lm.d_model, 60, generator=draws)
        shown.append(Shown(name, sae, 0, HOOK, np.ones(60)))
    return shown, [torch.randint(tiny_lm.vocabulary, (4, 40), generator=draws)]


@pytest.fixture(scope="module")
def path(made, tiny_lm, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "deep" / "features.html"
    feature_page.write(path, *made[:1], tiny_lm, made[1], n_features=12, n_passages=3, skip=1)
    return path


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.ids = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_every_sae_has_its_features_with_all_their_parts(path):
    page = Elements(path.read_text(encoding="utf-8"))
    names = [tag for tag, _ in page.tags]
    assert names.count("details") == names.count("summary") == names.count("svg") == 24
    assert names.count("h1") == 1
    assert names.count("h2") == 2
    text = "".join(page.text)
    assert len(re.findall(r"Promotes .*?Suppresses", text)) == 24
    assert len(re.findall(r"Nearest: Local #\d+ \(cosine -?\d\.\d\d\)", text)) == 12
    assert len(re.findall(r"Nearest: End-to-end #\d+", text)) == 12


def test_the_page_is_light_and_takes_nothing_from_outside(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < 400_000
    page = Elements(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "a"})
    assert "url(" not in text
    assert "@import" not in text


def test_a_full_page_stays_below_its_limit(made, tiny_lm):
    """A few dozen features of each of three kinds, with the passages of the default."""
    shown, batches = made
    size = len(feature_page.fragment(shown, tiny_lm, batches, n_features=36, skip=1).encode())
    assert 3 / 2 * size < 2_000_000


@pytest.fixture
def page_of(made, tiny_lm, monkeypatch):
    """Return a function that shows one feature, beside an SAE of another name."""
    shown, batches = made

    def fragment(feature, other="End-to-end"):
        monkeypatch.setattr(feature_page, "describe", lambda *_, **__: [feature])
        both = [shown[0], shown[1]._replace(name=other)]
        return feature_page.fragment(both, tiny_lm, batches, n_features=1)

    return fragment


def test_tokens_are_hostile_text(page_of):
    effects = [(text, 1.5) for text in HOSTILE]
    passage = Passage(HOSTILE, [1.0, 0.0, 2.0, 0.5, 0.1, 0.0, 3.0], 6)
    text = page_of(Feature(7, 0.01, [passage], [1, 0, 2], 3.0, effects, effects), '<b onclick="x">')
    page = Elements(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img"})
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    shown = "".join(page.text)
    for one in HOSTILE[:4]:
        assert one in shown
    assert "⏎" in shown  # what cannot be seen has a mark
    assert "\x07" not in text


def test_strength_is_not_told_by_colour_alone(page_of):
    passage = Passage(["a", "b", "c", "d"], [0.0, 0.1, 5.0, 10.0], 3)
    text = page_of(Feature(0, 0.1, [passage], [4, 0, 1], 10.0, [], []))
    assert '<strong class="a5">d</strong>' in text
    assert '<span class="a3">c</span>' in text
    assert '<span class="a1">b</span>' in text
    assert "10.00" in text
    widths = re.findall(r"\.a(\d)\{.*?border-bottom:([\d.]+)px", text, re.S)
    assert [float(width) for _, width in widths] == [0.5, 1, 1.5, 2, 2.5]


def test_the_drawing_says_what_it_shows(page_of):
    page = Elements(page_of(Feature(0, 0.1, [], [4, 0, 1], 2.5, [], [])))
    drawing = next(attributes for tag, attributes in page.tags if tag == "svg")
    assert drawing["aria-label"] == "Histogram of 5 activations, from 0 to 2.50"
    heights = [float(attributes["height"]) for tag, attributes in page.tags if tag == "rect"]
    assert heights == [38, 19] * 2  # it stands for a feature of either SAE


@pytest.mark.slow
@pytest.mark.parametrize("width", [PHONE, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it(path, browser, width, scheme):
    page, wrong = open_page(browser, width=width, scheme=scheme)
    page.goto(path.as_uri())
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert page.locator("details").first.locator("li").first.is_visible()  # one is open, as an example
    first = page.locator("details").nth(1)
    assert not first.locator("li").first.is_visible()
    first.locator("summary").focus()
    page.keyboard.press("Enter")  # without a mouse
    assert first.locator("li").first.is_visible()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    strongest = first.locator("strong").first
    colours = strongest.evaluate("one => [getComputedStyle(one).color, getComputedStyle(document.body).color]")
    assert colours[0] == colours[1]
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert dark == (scheme == "dark")
    assert not wrong
    page.close()


def test_a_kept_fragment_is_set_as_the_rest_of_the_book():
    kept = "<h2>without <b>it</b></h2><p><code>-1</code>&nbsp;-0.75 (cosine -0.10)</p>Histogram of 1 activations, of 21 activations"
    assert retouched(kept) == (
        "<h3>Without <b>it</b></h3><p><code>-1</code>&nbsp;−0.75 (cosine −0.10)</p>Histogram of 1 activation, of 21 activations"
    )


def test_of_a_kept_fragment_the_middle_feature_of_each_sae_is_open():
    sae = "<h2>A</h2><details open>1</details><details>2</details><details>3</details>"
    one = "<h3>A</h3><details>1</details><details open>2</details><details>3</details>"
    assert retouched(f"<p>{sae}{sae}") == f"<p>{one}{one}"
