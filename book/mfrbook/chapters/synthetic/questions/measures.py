"""What needs other runs than the paper's: many short ones, centred data, other readings, several numbers of SAEs."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from mfrbook.chapters.synthetic.questions import runs as questions
from mfrbook.chapters.synthetic.questions import tables as question_tables
from mfrbook.drawing.statistics import jackknife
from mfrbook.experiments.controls import early_inactivity
from mfrbook.experiments.evidence import Evidence, Untested, mean
from mfrbook.store.runs import Run

NORMAL = 2 / np.pi  # share of a normal distribution's variance between its two halves
MANY = 30  # runs that S4 asks for


def _baselines(evidence: Evidence, question: str = questions.MANY) -> list[Run]:
    return [runs["baseline"] for runs in question_tables.baselines(evidence.get("questions"), question)]


def questions_binary(evidence: Evidence) -> list[float]:
    """S4: share of the variance of the cluster's size over SAEs that two sizes explain, above that of a normal distribution.

    Each SAE counts by itself; the jackknife leaves out both SAEs of a run, which share their data.
    """
    sizes = np.array([run.results["cluster"] for run in _baselines(evidence)])
    if len(sizes) < MANY:
        raise Untested(f"A distribution over {MANY} runs or more is needed; there are {len(sizes)}.")
    if len(sizes) - Counter(map(tuple, sizes.tolist())).most_common(1)[0][1] < 2:
        raise Untested("The cluster has the same size in all runs but one: there is no distribution.")
    return jackknife(lambda rows: explained_by_two(sizes[rows].ravel()) - NORMAL, len(sizes)).tolist()


def explained_by_two(values: Sequence[float] | np.ndarray) -> float:
    """Return the largest share of the variance that lies between two halves of the sorted values; 1 if all are equal.

    2/π for a normal distribution, 3/4 for a uniform one, 1 for two values.
    """
    x = np.sort(np.asarray(values, float))
    total = ((x - x.mean()) ** 2).sum()
    if total == 0:
        return 1.0
    n = np.arange(1, len(x))
    low = np.cumsum(x)[:-1] / n
    high = (x.sum() - np.cumsum(x)[:-1]) / (len(x) - n)
    return float((n * (low - x.mean()) ** 2 + (len(x) - n) * (high - x.mean()) ** 2).max() / total)


def questions_early(evidence: Evidence) -> list[float]:
    """S6s: Fisher's z of the correlation of early inactivity and the cluster at the end, over baseline SAEs, by jackknife over runs."""
    return _early(_baselines(evidence))


def questions_early_tenth(evidence: Evidence) -> list[float]:
    """S6t: the same over fewer runs with a tenth of the paper's samples, where the cluster is of dead features."""
    return _early(_baselines(evidence, questions.SWITCHES))


def _early(found: Sequence[Run]) -> list[float]:
    early, sizes = [], []
    for run in found:
        early.append(early_inactivity(run))
        sizes.append(run.results["cluster"])
    x, y = np.array(early, float), np.array(sizes, float)

    def z(rows: np.ndarray) -> float:
        return float(np.arctanh(np.corrcoef(x[rows].ravel(), y[rows].ravel())[0, 1]))

    enough = len(found) >= 3 and all(np.delete(y, i, 0).std() > 0 for i in range(len(found)))
    if not enough:
        raise Untested("Needs three runs or more, and clusters that differ in size.")
    return jackknife(z, len(found)).tolist()


def questions_number(evidence: Evidence) -> list[float]:
    """Q5: gain in MMCS with the input features by the penalty, with the most SAEs minus with two."""
    return _by_number(evidence, "penalty")


def questions_number_pull(evidence: Evidence) -> list[float]:
    """Q5: the same with an α that grows with their number, so that the penalty's pull on each stays."""
    return _by_number(evidence, "penalty, equal pull")


def _by_number(evidence: Evidence, condition: str) -> list[float]:
    table = question_tables.by_number(evidence.get("questions"))
    gain = table.pivot(index=["seed", "SAEs"], columns="condition", values="mmcs_input")
    wide = (gain[condition] - gain["baseline"]).unstack()
    return (wide[max(questions.NUMBERS)] - wide[min(questions.NUMBERS)]).tolist()


def _runs(evidence: Evidence, question: str, choice: str, of: str = "questions") -> dict[int, Run]:
    """Return a choice's runs by seed, in the order of their seeds."""
    rows = [row for row in evidence.get(of) if (row.question, row.choice) == (question, choice)]
    return {row.seed: row.run for row in sorted(rows, key=lambda row: row.seed)}


def _paired(evidence: Evidence, question: str, choice: str, other: str, of: str = "questions") -> list[tuple[Run, Run]]:
    """Return both choices' runs of each seed that has both."""
    found, against = (_runs(evidence, question, one, of) for one in (choice, other))
    return [(run, against[seed]) for seed, run in found.items() if seed in against]


def _each(evidence: Evidence, question: str, choice: str, name: str = "mmcs_input") -> np.ndarray:
    """Return a result of a choice's runs, a mean over SAEs, in the order of their seeds."""
    return np.array([mean(run, name) for run in _runs(evidence, question, choice).values()])


def _rise(evidence: Evidence, choice: str, question: str = questions.CENTRED, over: str = "baseline") -> list[float]:
    """Rise of MMCS with the input features over another choice's of the same seed."""
    return _differences(evidence, choice, "mmcs_input", question, over)


def _differences(
    evidence: Evidence, choice: str, name: str, question: str = questions.CENTRED, over: str = "baseline"
) -> list[float]:
    """A result of a choice's runs minus another choice's, for each seed that has both."""
    return [mean(one, name) - mean(other, name) for one, other in _paired(evidence, question, choice, over)]


def _lower(evidence: Evidence, choice: str, question: str, than: str) -> list[float]:
    """By what share the loss is lower than another choice's of the same seed."""
    return [1 - mean(one, "loss") / mean(other, "loss") for one, other in _paired(evidence, question, choice, than)]


def questions_centring(evidence: Evidence) -> list[float]:
    """Q9f: what centring gains."""
    return _rise(evidence, "centred data")


def questions_centring_or_penalty(evidence: Evidence) -> list[float]:
    """Q9-first: what centring gains, minus what the penalty gains on the data as they are."""
    return _rise(evidence, "centred data", over="penalty, α = 3")


def questions_cube(evidence: Evidence) -> list[float]:
    """Q15m: what re-initialisation by the released code's statistic gains on data as printed."""
    return _rise(evidence, questions.CUBE)


def questions_cube_cluster(evidence: Evidence) -> list[float]:
    """Q15mc: by how many features the cluster is smaller then."""
    return (-np.array(_differences(evidence, questions.CUBE, "cluster"))).tolist()


def questions_cube_loss(evidence: Evidence) -> list[float]:
    """Q15ml: by what share the loss is lower then."""
    return _lower(evidence, questions.CUBE, questions.CENTRED, than="baseline")


def questions_samples(evidence: Evidence) -> list[float]:
    """Q9s: what the main runs' samples gain over fewer of them, without centring or penalty."""
    few, many = (_each(evidence, one, "baseline", "samples")[0] for one in (questions.SWITCHES, questions.CENTRED))
    if few == many:
        raise Untested("These runs are at one number of samples.")
    return (_each(evidence, questions.CENTRED, "baseline") - _each(evidence, questions.SWITCHES, "baseline")).tolist()


def questions_sum(evidence: Evidence) -> list[float]:
    """Q10: what the penalty gains beside the sum over dimensions, over no penalty (R12)."""
    return _rise(evidence, "penalty as printed", questions.SWITCHES)


def questions_one_to_one(evidence: Evidence) -> list[float]:
    """Q10: what the penalty gains with features matched one to one, over no penalty (R9)."""
    return _rise(evidence, questions.ONE_TO_ONE)


def questions_one_to_one_tenth(evidence: Evidence) -> list[float]:
    """Q10: the same on a tenth of the samples, as Q10's controls have."""
    return _rise(evidence, questions.ONE_TO_ONE, questions.SWITCHES)


def questions_one_to_one_loss(evidence: Evidence) -> list[float]:
    """Q10: by what share the loss is lower with the penalty, features matched one to one, than without (R9)."""
    return _lower(evidence, questions.ONE_TO_ONE, questions.CENTRED, than="baseline")


def questions_one_to_one_longer(evidence: Evidence) -> list[float]:
    """Q10: what the penalty gains with features matched one to one, over a baseline of no less compute."""
    return _rise(evidence, questions.ONE_TO_ONE, questions.SWITCHES, over=questions.LONGER)


def questions_one_to_one_pair(evidence: Evidence) -> list[float]:
    """Q10: the same over a baseline each of whose SAEs has the compute of a pair, since copies count as one."""
    return _rise(evidence, questions.ONE_TO_ONE, questions.SWITCHES, over=questions.PAIR)


def questions_one_to_one_pair_loss(evidence: Evidence) -> list[float]:
    """Q10: by what share the loss is lower than that of the baseline with a pair's compute."""
    return _lower(evidence, questions.ONE_TO_ONE, questions.SWITCHES, than=questions.PAIR)


def questions_one_to_one_longer_loss(evidence: Evidence) -> list[float]:
    """Q10: by what share the loss is lower with the penalty, features matched one to one, than that baseline's."""
    return _lower(evidence, questions.ONE_TO_ONE, questions.SWITCHES, than=questions.LONGER)


def questions_centred_sum(evidence: Evidence) -> list[float]:
    """Q10: what the penalty gains on centred data beside the sum, over centred data alone."""
    return _rise(evidence, "centred, penalty as printed", questions.SWITCHES, over="centred data")


def questions_centred_one_to_one(evidence: Evidence) -> list[float]:
    """Q10: what the penalty gains on centred data with features matched one to one, over centred data alone."""
    return _rise(evidence, "centred, penalty one to one", questions.SWITCHES, over="centred data")


def _together(evidence: Evidence, question: str, choice: str, over: str) -> list[float]:
    """Rise of the share of input features that any SAE of a run recovers, over another choice's of the same seed."""
    pairs = _paired(evidence, question, choice, over, of="coverage")
    return [mean(one, "any") - mean(other, "any") for one, other in pairs]


def coverage_one_to_one(evidence: Evidence) -> list[float]:
    """Q11: what the SAEs of a group recover together, with features matched one to one minus without a penalty."""
    return _together(evidence, questions.CENTRED, questions.ONE_TO_ONE, over="baseline")


def coverage_centred_one_to_one(evidence: Evidence) -> list[float]:
    """Q11: the same on centred data."""
    return _together(evidence, questions.SWITCHES, "centred, penalty one to one", over="centred data")


def _shared(evidence: Evidence, choice: str, of: str) -> list[float]:
    """Share of the features that a run's SAEs share, or of all, which are the input's."""
    values = [question_tables.shared(run)[of] for run in _runs(evidence, questions.CENTRED, choice).values()]
    if not np.isfinite(values).all():
        raise Untested("There are runs whose SAEs share no feature.")
    return values


SHARES: Mapping[str, tuple[str, str]] = {
    "questions_shared": ("baseline", "shared_true"),
    "questions_shared_penalty": ("penalty, α = 3", "shared_true"),
    "questions_shared_one_to_one": (questions.ONE_TO_ONE, "shared_true"),
    "questions_shared_centred": ("centred data", "shared_true"),
    "questions_true": ("baseline", "true"),
    "questions_true_penalty": ("penalty, α = 3", "true"),
    "questions_true_one_to_one": (questions.ONE_TO_ONE, "true"),
}
"""Q12, for each question: of which runs, and of what the share that is the input's: of what their SAEs share, or of all they learn."""

MEASURES: Mapping[str, Callable[[Evidence], list[float]]] = {
    name: partial(_shared, choice=choice, of=of) for name, (choice, of) in SHARES.items()
}
