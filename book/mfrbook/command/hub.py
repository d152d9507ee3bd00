"""Whether the Hugging Face hub answers, asked once: without a network its own client tries for half a minute."""

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

SWITCHES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
"""Environment variables with which its libraries look into their cache only; they read them when imported."""


def go_offline_if_silent(values: Mapping[str, Any], timeout: float = 3.0) -> bool:
    """Have only the cache asked, in this process and those it starts, where parameters need the hub and it is silent.

    Parameters
    ----------
    values
        Of a command; what `model` and `text` name is looked at.
    timeout : float
        Seconds to wait for an answer.

    Returns
    -------
    bool
        Whether it is so now; said on standard error, too.
    """
    if not needs_hub(values) or any(os.environ.get(name) for name in SWITCHES) or answers(timeout):
        return False
    os.environ.update(dict.fromkeys(SWITCHES, "1"))
    print(f"The Hugging Face hub does not answer within {timeout:g} s: only its cache here is used.", file=sys.stderr)
    return True


def needs_hub(values: Mapping[str, Any]) -> bool:
    """Tell whether a model, its text, or a text named apart can only come from the hub."""
    if values.get("model") is None and values.get("text") is None:
        return False
    from mfrbook.experiments.model_and_text import default_text
    from mfrbook.experiments.sources import RESERVED
    from mfrlib.data.text import documents as texts
    from mfrlib.language_models.pretrained.names import EMBEDDED, LanguageModelError, find

    model = values.get("model") or EMBEDDED
    if not isinstance(model, str) or not isinstance(values.get("text") or "", str):
        return False  # refused later, by name
    try:
        text = values.get("text") or default_text(model)
        return find(model) is None or (text not in RESERVED["text"] and texts.find(text) is None)
    except (LanguageModelError, texts.TextError):
        return False  # a path that is not there: said later


def answers(timeout: float) -> bool:
    """Tell whether the hub, or the mirror that `HF_ENDPOINT` names, answers at all."""
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if not address.startswith(("http://", "https://")):
        return False
    try:
        request = urllib.request.Request(address, method="HEAD")  # noqa: S310, the scheme is looked at above
        with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
