"""Which place on the head a channel's label names, and against which reference it was recorded (reading R17)."""

import re
from collections.abc import Iterable

# fmt: off
TEN_TWENTY = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8",
              "P7", "P3", "Pz", "P4", "P8", "O1", "O2")
# fmt: on
"""The 19 scalp electrodes of the 10–20 system; T7, T8, P7, P8 were once T3, T4, T5, T6."""

_PRESENT_NAME = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
# The places that the 10–10 system has; T1 to T6 are older names.
_ELECTRODE = re.compile(
    r"(AF|F|P|PO)(Z|[1-9]|10)|(FP|O|I)([Z12])|(FC|C|CP)([Z1-6])|(FT|TP)([789]|10)|(T)([1-9]|10)|(N)(Z)"
)
_LINKED = {"A1": "ears", "A2": "ears", "M1": "mastoids", "M2": "mastoids"}
_REFERENCE = re.compile(r"[-:/_](REF|LE|AR|AVG|A1|A2|A1A2|M1|M2|M1M2)$")
_DERIVED = re.compile(r"([^-:/_]+)[-:/_]([A-Z(][^-]*)")
# Electrodes counted through by letter, A1 to D32 or H32 on BioSemi's caps: C3 is then no 10–20 electrode.
_COUNTED = re.compile(r"[A-H]([1-9]|[12][0-9]|3[0-2])")
_TOLD_APART = ("A1", "A2", "E1", "E2")  # ears, and the eyes in recordings of sleep


def electrode(label: str) -> str | None:
    """Return the 10–20 or 10–10 name in a channel's label, or None where it is no scalp electrode.

    Taken off are `EEG` and a space in front, a common reference behind (`-REF`, `-LE`, `-AR`, `-AVG`, `-A1`, `-A2`,
    `-M1`, `-M2`, also after `:`, `/` or `_`) and trailing dots; the rest must be a name of the 10–10 system, in any case. So ECG, EOG,
    EMG, photic and burst channels, the references themselves (`A1`, `M2`, `EEG A2-A1`) and bipolar
    derivations (`Fp1-F7`) fall away.

    Examples
    --------
    >>> from mfrlib.data.eeg.electrodes import electrode
    >>> [electrode(label) for label in ("EEG FP1-REF", "Fc5.", "EEG T3-LE", "EEG A2-A1", "ECG ECG")]
    ['Fp1', 'FC5', 'T7', None, None]
    """
    name = _REFERENCE.sub("", _bare(label))
    found = _ELECTRODE.fullmatch(name)
    if not found:
        return None
    region, place = (one for one in found.groups() if one)
    name = ("Fp" if region == "FP" else region) + place.lower()
    return _PRESENT_NAME.get(name, name)


def _bare(label: str) -> str:
    """Return a label in capitals, without `EEG` or `EEG-` in front, trailing dots, and spaces about a hyphen."""
    return re.sub(r"\s*([-:/])\s*", r"\1", re.sub(r"^EEG[\s:_-]*", "", label.strip().upper()).rstrip(". "))


def against_one_reference(labels: Iterable[str]) -> dict[str, str]:
    """Return electrodes by label where all labels of electrodes name one and the same other place: a common reference.

    What one reference is called differs between laboratories (`-CPz`, `-CLE`). Bipolar derivations name several, and a
    single channel against another electrode may be one of those, so it is not taken. The reference may have a channel of
    its own (`Cz` beside `C3-Cz`), which is left out; where any other electrode stands alone, nothing is taken.
    """
    found, references = {}, set()
    alone = {name for label in labels if (name := electrode(label))}
    for label in labels:
        derived = _DERIVED.fullmatch(_bare(label))
        name = electrode(derived[1]) if derived else None
        if derived and name:
            found[label] = name
            references.add(derived[2])
    place = electrode(next(iter(references), ""))
    sure = len(references) == 1 and (len(found) > 1 or place is None) and alone <= {place}
    return found if sure else {}


def require_own_system(labels: Iterable[str]) -> None:
    """Refuse labels that count electrodes through by letters, beside which C3 or F4 may be any place on the head."""
    bare = [_REFERENCE.sub("", _bare(label)) for label in labels]
    foreign = [one for one in bare if _COUNTED.fullmatch(one) and one not in _TOLD_APART and electrode(one) is None]
    if len(foreign) > 1 or any(one[0] in "CF" for one in foreign):  # no system has a C17 beside an electrode C1
        raise ValueError(
            f"labels of another system than 10–20, {', '.join(foreign[:4])}: positions are not guessed. Rename the channels "
            "to 10–20 or 10–10 electrodes in the files"
        )


def require_one_reference(labels: Iterable[str]) -> None:
    """Refuse channels that were recorded against different references, as far as their labels name them.

    Between files the reference may differ: each window is z-scored, and the reference stays as recorded.
    Raises ValueError naming a channel of each reference.
    """
    first: dict[str, str] = {}
    for label in labels:
        found = _REFERENCE.search(_bare(label))
        # Each side's own ear or mastoid is one montage: C3-A2 beside C4-A1.
        first.setdefault(_LINKED.get(found[1], found[1]) if found else "", label)
    if len(first) > 1:
        named = ", ".join(map(repr, first.values()))
        raise ValueError(f"channels with different references in one file: {named}")
