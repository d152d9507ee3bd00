"""A page to look at features: one static HTML file without scripts or anything from outside, made from runs."""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mfrbook.drawing.features.description import Feature, Passage, describe, spread
from mfrlib.language_models.language_model import LanguageModel
from mfrlib.method.similarity import best_match
from mfrlib.models.stack import SAEStack

LEVELS = 5  # shades of a token
LARGEST = 280_000
"""Bytes of a `light` page; the page of the book that shows it adds its frame."""


class Shown(NamedTuple):
    """An SAE whose features are shown: its name on the page, and where it is.

    Attributes
    ----------
    name : str
    stack : TopKSAE, ReLUSAE, or what `load_foreign` gives
    sae : int
        Which of the stack.
    hook : str
        Of the language model.
    rates : array-like (feature,), optional
        Share of positions at which each feature is active; by default that of the page's own text.
    """

    name: str
    stack: SAEStack
    sae: int
    hook: str
    rates: Any = None


def write(path: Path, shown: Sequence[Shown], model: LanguageModel, batches: Iterable[Tensor], **options: int) -> None:
    """Write the page as a file of its own; see `fragment`."""
    body = fragment(shown, model, batches, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Features</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<style>:root{color-scheme:light dark}body{margin:1rem auto;max-width:60rem;padding:0 1rem;"
        f"font-family:system-ui,sans-serif}}</style></head><body><h1>Features</h1>{body}</body></html>\n",
        encoding="utf-8",
    )


def fragment(
    shown: Sequence[Shown],
    model: LanguageModel,
    batches: Iterable[Tensor],
    *,
    n_features: int = 36,
    n_passages: int = 5,
    skip: int = 0,
) -> str:
    """Return the page's content: for each SAE some features, from the rarest to the commonest.

    Every feature has its strongest passages, a histogram of its activations, the tokens that it promotes and suppresses by
    the direct path, and the nearest feature of each of the other SAEs.

    Parameters
    ----------
    shown : sequence of Shown
        SAEs at one hook of one model.
    model : LanguageModel
    batches : iterable of Tensor (sequence, position)
        The text that passages are looked for in.
    n_features, n_passages : int
        Features of each SAE, passages of each feature.
    skip : int
        Positions at the start of each sequence that SAEs do not see.
    """
    texts = list(batches)
    given = {
        one.name: _rates(one, model, texts, skip) if one.rates is None else torch.as_tensor(one.rates) for one in shown
    }
    numbers = {name: (rates > 0).nonzero()[:, 0] for name, rates in given.items()}
    rows = {one.name: one.stack.dictionary[one.sae].detach().cpu()[numbers[one.name]] for one in shown}
    parts = [_STYLE, f"<p>{_LEGEND}</p>"]
    for one in shown:
        picked = spread(given[one.name], n_features)
        found = describe(model, one.stack, one.sae, one.hook, texts, picked, skip=skip, n_passages=n_passages)
        own = one.stack.dictionary[one.sae, picked].detach().cpu()
        nearest: list[list[tuple[str, int, float]]] = [[] for _ in picked]
        for other in shown:
            if other.name != one.name and len(picked) and len(rows[other.name]):
                match = best_match(own, rows[other.name])
                for place, (cosine, row) in enumerate(zip(match.cosine.tolist(), match.row.tolist(), strict=True)):
                    nearest[place].append((other.name, int(numbers[other.name][row]), cosine))
        both = enumerate(zip(found, nearest, strict=True))  # the first is open: a reader sees what there is to see
        blocks = "".join(_feature(feature, near, unfolded=not place) for place, (feature, near) in both)
        alive = len(rows[one.name])
        parts.append(f"<h2>{html.escape(one.name)}</h2><p>{len(picked)} of {alive} alive features.</p>{blocks}")
    return f'<div class="mfr-features">{"".join(parts)}</div>'


def light(
    shown: Sequence[Shown], model: LanguageModel, batches: Iterable[Tensor], *, n_features: int, skip: int = 0
) -> str:
    """Return the page's content with as many passages of each feature, four at most and one at least, as `LARGEST` leaves room for."""
    texts = list(batches)
    for n_passages in (4, 3, 2, 1):
        page = fragment(shown, model, texts, n_features=n_features, n_passages=n_passages, skip=skip)
        if len(page.encode()) <= LARGEST:
            break
    return page


@torch.no_grad()
def _rates(one: Shown, model: LanguageModel, texts: Sequence[Tensor], skip: int) -> Tensor:
    counts, n = torch.zeros(one.stack.weight.shape[1]), 0
    for tokens in texts:
        x = model.activations(tokens, [one.hook])[one.hook][:, skip:]
        found, here = one.stack.usage(one.stack(x))
        counts, n = counts + found[one.sae].cpu(), n + here
    return counts / n


def _feature(feature: Feature, nearest: Sequence[tuple[str, int, float]], *, unfolded: bool = False) -> str:
    near = ", ".join(f"{html.escape(name)} #{number} (cosine {cosine:.2f})" for name, number, cosine in nearest)
    passages = "".join(_passage(one, feature.largest) for one in feature.passages)
    return (
        f"<details{' open' * unfolded}><summary><b>#{feature.number}</b> active on {100 * feature.rate:.3g} % of tokens: "
        f"{_words(feature.promoted[:3])}</summary>{_histogram(feature)}"
        f"<p>Promotes {_effects(feature.promoted)}<br>Suppresses {_effects(feature.suppressed)}</p>"
        + (f"<p>Nearest: {near}</p>" if near else "")
        + f"<ol>{passages}</ol></details>"
    )


def _passage(passage: Passage, largest: float) -> str:
    """Return a passage with shaded tokens: the stronger, the darker and the thicker the line below."""
    parts = []
    for place, (text, value) in enumerate(zip(passage.tokens, passage.activations, strict=True)):
        level = min(LEVELS, int(value / largest * LEVELS) + 1) if value > 0 else 0
        inside = _visible(text)
        if level:
            tag = "strong" if place == passage.peak else "span"
            inside = f'<{tag} class="a{level}">{inside}</{tag}>'
        parts.append(inside)
    return f"<li><small>{passage.activations[passage.peak]:.2f}</small> <q>{''.join(parts)}</q></li>"


def _visible(text: str) -> str:
    """Return a token's text, escaped, with a mark for what cannot be seen."""
    shown = "".join(
        character if character.isprintable() else {"\n": "⏎", "\t": "⇥"}.get(character, "�") for character in text
    )
    return html.escape(shown)


def _words(effects: Sequence[tuple[str, float]]) -> str:
    return " ".join(f"<code>{_visible(text)}</code>" for text, _ in effects)


def _effects(effects: Sequence[tuple[str, float]]) -> str:
    return " ".join(f"<code>{_visible(text)}</code>&nbsp;{value:+.2f}" for text, value in effects)


def _histogram(feature: Feature) -> str:
    """Return the histogram of activations as an inline drawing, on a square-root scale so that rare ones show."""
    most, n = max([1, *feature.counts]), len(feature.counts)
    bars = "".join(
        f'<rect x="{6 * place}" y="{40 - height:.1f}" width="5" height="{height:.1f}"/>'
        for place, count in enumerate(feature.counts)
        if (height := 38 * (count / most) ** 0.5) > 0
    )
    said = f"Histogram of {sum(feature.counts)} activations, from 0 to {feature.largest:.2f}"
    return (
        f'<figure><svg viewBox="0 0 {6 * n} 41" role="img" aria-label="{said}">{bars}'
        f'<path d="M0 40.5H{6 * n}"/></svg><figcaption>{said}</figcaption></figure>'
    )


_LEGEND = (
    "Features are listed from the rarest to the commonest. In a passage, tokens on which the feature is active are shaded and "
    "underlined, the stronger the darker and the thicker; the strongest is bold, and its activation stands in front. "
    "Promoted and suppressed tokens are those of the direct path: what one unit of the feature adds to the logits (mean 0) if no "
    "later block touched it, up to the final norm's scale. ⏎ is a line break, � a part of a character."
)
_STYLE = (
    """<style>
.mfr-features{--shade:#0072b2;--edge:#b9c0cc;line-height:1.5}
@media(prefers-color-scheme:dark){.mfr-features{--shade:#56b4e9;--edge:#5b6472}}
html[data-theme=light] .mfr-features{--shade:#0072b2;--edge:#b9c0cc}
html[data-theme=dark] .mfr-features{--shade:#56b4e9;--edge:#5b6472}
.mfr-features details{border-bottom:1px solid var(--edge);padding:.3rem 0}
.mfr-features summary{cursor:pointer;overflow-wrap:anywhere}
.mfr-features p,.mfr-features li{overflow-wrap:anywhere}
.mfr-features figure{float:right;margin:.2rem 0 .5rem 1rem;width:10rem;max-width:40%}
.mfr-features figcaption{font-size:.75rem}
.mfr-features svg{width:100%;fill:var(--shade);stroke:var(--edge)}
.mfr-features rect{stroke:none}
.mfr-features ol{clear:both;padding-left:1.5rem}
.mfr-features q{quotes:none;white-space:pre-wrap}
.mfr-features code{white-space:pre-wrap}
"""
    + "".join(
        f".mfr-features .a{level}{{background:color-mix(in srgb,var(--shade) {11 * level}%,transparent);"
        f"border-bottom:{0.5 * level}px solid var(--shade)}}\n"
        for level in range(1, LEVELS + 1)
    )
    + "</style>"
)
