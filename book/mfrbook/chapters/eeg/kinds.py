"""What the features of EEG look like, and how active they are under two conditions: from what a run measured of them.

`mfrbook.chapters.eeg.features` measures; here its arrays are read.
"""

import numpy as np
import pandas as pd
import scipy  # its parts, which take long, are imported when they are first used
from numpy.typing import NDArray

from mfrbook.chapters.eeg.recordings.labelled import condition
from mfrbook.store.runs import Run

BANDS = {"delta": (0.5, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 20), "fast": (20, 45)}
"""Name and edges in Hz of the bands; the lower edge belongs to a band, the upper to the next.

Beta ends where `fast`, the band of muscles, begins; in `mfrbook.chapters.denoising.closeness` it goes to 30 Hz.
"""
POSTERIOR = ("P7", "P3", "Pz", "P4", "P8", "O1", "O2")
CENTRAL = ("Fz", "C3", "Cz", "C4")
FRONTOPOLAR = ("Fp1", "Fp2")
RIM = ("Fp1", "Fp2", "F7", "F8", "T7", "T8")
KINDS = ("eye", "muscle", "spindle-like", "alpha", "slow", "theta", "beta", "other")
"""What a feature can be, in the order in which the rules are asked; see `kinds`."""

RARE = 0.001  # share of windows: what is active less often is not shown and not tested
LEVEL = 0.05  # of false discoveries


def kinds(run: Run) -> pd.DataFrame:
    """Return what each feature looks like: a rule by the peak of its spectrum and by where on the head it is active.

    The first rule that holds names a feature; `ratio` is its mean activity at some electrodes over that at all.

    - eye: peak under 4 Hz, ratio at Fp1 and Fp2 1.5 or more
    - muscle: half of the power or more from 20 Hz on, ratio at the rim (Fp1, Fp2, F7, F8, T7, T8) over 1
    - spindle-like: peak from 11 to 16 Hz, half of the power or more within 2 Hz of it, ratio at Fz, C3, Cz, C4 over 1 and
      over that at posterior electrodes
    - alpha: peak from 8 to 13 Hz, half of the power or more within 2 Hz of it, ratio at posterior electrodes (P and O) over 1
    - slow, theta, beta: peak under 4, from 4 to 8, from 13 to 45 Hz
    - other: the rest, such as alpha frequency without a place

    They are looks, not diagnoses: an eye or a muscle is not seen without its own channel.

    Returns
    -------
    DataFrame
        A row per feature that is active in a thousandth of the windows or more: `feature`, `rate`, `peak` (Hz), shares
        of power by band, `kind`.
    """
    power, activity = (run.arrays[name].astype(float) for name in ("feature_spectrum", "feature_activity"))
    rate = run.arrays["recording_rate"].mean(0)
    overall = np.maximum(activity.mean(0), 1e-12)

    def ratio(places: tuple[str, ...]) -> NDArray[np.float64]:
        found = [i for i, name in enumerate(run.results["electrodes"]) if name in places]
        return activity[found].mean(0) / overall if found else np.zeros(len(rate))

    hertz = np.arange(power.shape[1])
    peak = 1 + power[:, 1:].argmax(1)
    share = {name: power[:, (hertz >= low) & (hertz < high)].sum(1) for name, (low, high) in BANDS.items()}
    rhythm = np.where(np.abs(hertz - peak[:, None]) <= 2, power, 0).sum(1) >= 0.5
    posterior, central = ratio(POSTERIOR), ratio(CENTRAL)
    rules = {
        "eye": (peak < 4) & (ratio(FRONTOPOLAR) >= 1.5),
        "muscle": (share["fast"] >= 0.5) & (ratio(RIM) > 1),
        "spindle-like": (peak >= 11) & (peak <= 16) & rhythm & (central > 1) & (central > posterior),
        "alpha": (peak >= 8) & (peak <= 13) & rhythm & (posterior > 1),
        "slow": peak < 4,
        "theta": (peak >= 4) & (peak < 8),
        "beta": peak >= 13,
    }
    kind = np.select(list(rules.values()), list(rules), default="other")
    columns = {"feature": np.arange(len(rate)), "rate": rate, "peak": peak, **share, "kind": kind}
    return pd.DataFrame(columns)[rate >= RARE].reset_index(drop=True)


def two_conditions(run: Run) -> tuple[str, str] | None:
    """Return the two conditions of the held-out recordings, if there are two and three subjects or more have both."""
    subjects: dict[str, set[str]] = {}
    for name, subject in zip(run.results["recordings"], run.results["recording_subjects"], strict=True):
        if found := condition(name):
            subjects.setdefault(found, set()).add(subject)
    if len(subjects) != 2 or len(set.intersection(*subjects.values())) < 3:
        return None
    first, second = sorted(subjects, key=lambda one: min(n for n in run.results["recordings"] if condition(n) == one))
    return first, second


def rates_by_subject(run: Run) -> NDArray[np.float64]:
    """Return activity rates `(condition, subject, feature)` of the subjects that have both conditions."""
    pair = two_conditions(run)
    if pair is None:
        raise ValueError("the held-out recordings have no two conditions")
    rows = zip(run.results["recordings"], run.results["recording_subjects"], run.arrays["recording_rate"], strict=True)
    found: dict[tuple[str, str], list[NDArray[np.float32]]] = {}
    for name, subject, rate in rows:
        found.setdefault((condition(name), subject), []).append(rate)
    both = sorted({s for c, s in found if c == pair[0]} & {s for c, s in found if c == pair[1]})
    return np.array([[np.mean(found[one, subject], axis=0) for subject in both] for one in pair], dtype=float)


def compare_conditions(run: Run) -> pd.DataFrame:
    """Test for each feature whether its rate differs between two conditions, paired over held-out subjects.

    Paired t tests; false discoveries among all features tested are controlled by Benjamini and Hochberg's procedure.

    Returns
    -------
    DataFrame
        The rows of `kinds` with `difference` (rate in the second condition minus that in the first), `p` and `q`, the
        adjusted p: features with q ≤ 0.05 hold false discoveries of 5 % on average, at most.
    """
    table = kinds(run)
    first, second = rates_by_subject(run)[:, :, table["feature"]]
    spread = (second - first).std(0, ddof=1)
    difference = (second - first).mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = difference / (spread / np.sqrt(len(first)))
    p = np.where(spread > 0, 2 * scipy.stats.t.sf(np.abs(t), len(first) - 1), 1.0)
    q = scipy.stats.false_discovery_control(p) if len(p) else p
    return table.assign(difference=difference, p=p, q=q)
