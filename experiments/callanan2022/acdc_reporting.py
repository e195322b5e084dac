"""The table of NOR against diseased from the test stacks' rows: both arms, the constant, and the arms side by side."""

import numpy as np
from scipy.stats import binomtest

from hcreg import statistics

THRESHOLD = 0.5
_SMALLEST = 1e-7  # a probability is no smaller in a log-loss
_MEANS = (
    "logit",
    "share_hires_cam",
    "share_gradient",
    "share_chance",
    "relevance",
    "swap_logit_change",
    "swap_class_change",
)
_SHOWN = (
    "auc_within_folds",
    "sensitivity",
    "specificity",
    "share_hires_cam",
    "share_gradient",
    "share_chance",
    "swap_change_over_sd",
)
# What the arms are compared in, patient by patient; all tests of a table are corrected together.
COMPARED = ("log_loss", "share_hires_cam", "share_gradient", "swap_logit_change", "swap_class_change")


def patient_rows(rows):
    """One row for each patient: the mean over both phases, and over seeds where there are several.

    Parameters
    ----------
    rows : list of dict
        Of ``predictions.csv``, of one arm.

    Returns
    -------
    list of dict
        In the order of patient ids: ``probability``, the mean; ``log_loss`` of it; and means of the measures, NaN
        where one of the stacks has none.
    """
    patients = {}
    for row in rows:
        patients.setdefault(row["patient_id"], []).append(row)
    found = []
    for patient_id in sorted(patients):
        stacks = patients[patient_id]
        probability = float(np.mean([row["probability"] for row in stacks]))
        diseased = int(stacks[0]["diseased"])
        found.append(
            {
                "patient_id": patient_id,
                "group": stacks[0]["group"],
                "fold": int(stacks[0]["fold"]),
                "diseased": diseased,
                "probability": probability,
                "log_loss": float(-np.log(max(probability if diseased else 1 - probability, _SMALLEST))),
                "correct": int((probability > THRESHOLD) == bool(diseased)),
                **{name: float(np.mean([row[name] for row in stacks])) for name in _MEANS},
            }
        )
    return found


def arm_row(arm, rows, records):
    """Everything the table says of an arm.

    Parameters
    ----------
    arm : str
    rows : list of dict
        Of ``predictions.csv``, all folds and seeds.
    records : list of dict
        Of ``run.json``.

    Returns
    -------
    dict
        Intervals are 95 % bootstrap intervals over patients.
    """
    patients = patient_rows(rows)
    y_true, y_pred = _columns(patients, "diseased", "probability")
    pairs = np.column_stack([y_true, y_pred])
    row = {"arm": arm, "num_patients": len(patients), "num_stacks": len({each["subject_id"] for each in rows})}
    row["num_seeds"] = len({each["seed"] for each in rows})
    for name, statistic in (("auc", auc), ("balanced_accuracy", balanced_accuracy)):
        interval = statistics.bootstrap_interval(pairs, statistic)
        row |= {name: interval.estimate, f"{name}_lower": interval.lower, f"{name}_upper": interval.upper}
    row["auc_within_folds"] = auc_within_folds(patients)
    stacks = np.column_stack(_columns(rows, "diseased", "probability"))
    row["auc_stacks"] = auc(stacks)
    row["balanced_accuracy_stacks"] = balanced_accuracy(stacks)
    for phase in ("ED", "ES"):
        row[f"auc_{phase}"] = auc(stacks[[each["phase"] == phase for each in rows]])
    is_right = (y_pred > THRESHOLD) == (y_true > 0)
    row["sensitivity"], row["specificity"] = float(is_right[y_true > 0].mean()), float(is_right[y_true == 0].mean())
    losses = np.array([patient["log_loss"] for patient in patients])
    row["log_loss_of_classes"] = float(np.mean([losses[y_true == label].mean() for label in (0, 1)]))
    for name in _MEANS[1:]:
        row[name] = float(np.mean([patient[name] for patient in patients]))
    logits = np.array([patient["logit"] for patient in patients])
    row["logit_sd"] = float(logits.std(ddof=1))
    row["swap_change_over_sd"] = row["swap_logit_change"] / row["logit_sd"] if row["logit_sd"] > 0 else float("nan")
    row["epochs"] = records[0]["arguments"]["protocol"]["epochs"]
    row["training_seconds_of_fold"] = float(np.mean([record["training_seconds"] for record in records]))
    row["num_parameters"] = records[0]["num_parameters"]
    row["commit"] = records[0]["commit"]
    return row


def constant_row(row):
    """What calling everybody diseased gives, in the columns of `arm_row`.

    Parameters
    ----------
    row : dict
        Of an arm, for the numbers of patients and the columns.

    Returns
    -------
    dict
        Without a look at the images no order is better than chance, and equal odds, to which the class weights lead,
        have the least log-loss.
    """
    known = {"arm": "constant", "num_patients": row["num_patients"], "num_stacks": row["num_stacks"]}
    known |= {name: 0.5 for name in row if name.startswith(("auc", "balanced_accuracy"))}
    known |= {"sensitivity": 1.0, "specificity": 0.0, "log_loss_of_classes": float(np.log(2))}
    known |= {"share_chance": row["share_chance"], "swap_logit_change": 0.0, "swap_class_change": 0.0}
    return {name: known.get(name) for name in row}


def comparisons(rows_a, rows_b, name_a, name_b):
    """Tests between two arms on the same patients.

    Parameters
    ----------
    rows_a, rows_b : list of dict
        Of ``predictions.csv``.
    name_a, name_b : str

    Returns
    -------
    list of dict
        McNemar's exact test of right and wrong answers, Wilcoxon's signed-rank test of the patients' values in
        `COMPARED`, each with a p-value; and, without a test, the difference of the two AUC with its bootstrap interval
        over patients.

    Raises
    ------
    ValueError
        If the arms were not tested on the same patients.
    """
    a, b = patient_rows(rows_a), patient_rows(rows_b)
    if [row["patient_id"] for row in a] != [row["patient_id"] for row in b]:
        raise ValueError(
            f"{name_a} and {name_b} were not tested on the same patients: {len(a)} and {len(b)}. Run the missing folds."
        )
    tests = [{"measure": "correct", **mcnemar(*_columns(a, "correct"), *_columns(b, "correct"))}]
    for measure in COMPARED:
        values = np.array([_columns(rows, measure)[0] for rows in (a, b)])
        known = np.isfinite(values).all(0)
        if not known.any():
            continue
        found = statistics.compare_paired(*values[:, known])
        tests.append(
            {
                "measure": measure,
                "test": "Wilcoxon signed-rank",
                "num_patients": found.num_pairs,
                "mean_a": float(values[0, known].mean()),
                "mean_b": float(values[1, known].mean()),
                "p_value": found.p_value,
            }
        )
    y_true, first = _columns(a, "diseased", "probability")
    (second,) = _columns(b, "probability")
    interval = statistics.bootstrap_interval(
        np.column_stack([y_true, first, second]), lambda drawn: auc(drawn[:, [0, 2]]) - auc(drawn[:, [0, 1]])
    )
    aucs = {"mean_a": auc(np.column_stack([y_true, first])), "mean_b": auc(np.column_stack([y_true, second]))}
    ends = {"difference_lower": interval.lower, "difference_upper": interval.upper}
    tests.append({"measure": "auc", "test": "bootstrap interval", "num_patients": len(a), **aucs, **ends})
    columns = list(dict.fromkeys(name for test in tests for name in test))
    return [{"a": name_a, "b": name_b, **{name: test.get(name) for name in columns}} for test in tests]


def with_correction(tests):
    """Tests with Holm's correction over all of them, of whatever pair of arms.

    Parameters
    ----------
    tests : list of dict
        Of `comparisons`.

    Returns
    -------
    list of dict
        With ``p_value_holm``, None where there is no p-value.
    """
    tested = [test for test in tests if test["p_value"] is not None]
    corrected = iter(statistics.holm([test["p_value"] for test in tested]) if tested else ())
    return [{**test, "p_value_holm": None if test["p_value"] is None else float(next(corrected))} for test in tests]


def mcnemar(correct_a, correct_b):
    """McNemar's exact two-sided test: of the patients that one arm alone has right, does each have half?

    Parameters
    ----------
    correct_a, correct_b : ndarray of shape (num_patients,), 0 or 1

    Returns
    -------
    dict
        ``p_value`` is 1 where the arms never differ.

    Examples
    --------
    >>> mcnemar(np.array([1, 1, 1, 0]), np.array([0, 0, 0, 0]))["p_value"]
    0.25
    """
    only_a, only_b = int(((correct_a > 0) & (correct_b == 0)).sum()), int(((correct_a == 0) & (correct_b > 0)).sum())
    p_value = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    shares = {"mean_a": float(np.mean(correct_a)), "mean_b": float(np.mean(correct_b))}
    return {"test": "McNemar exact", "num_patients": len(correct_a), **shares, "p_value": float(p_value)}


def auc(pairs):
    """Area under the ROC curve.

    Parameters
    ----------
    pairs : ndarray of shape (num_samples, 2)
        True class and score.

    Returns
    -------
    float
        One is best; 0.5 where a class is missing, as in a rare resample of few patients: nothing can be told apart.

    Notes
    -----
    scikit-learn's ``roc_auc_score``, counted pair by pair: of few patients that is many times faster, and a bootstrap
    asks thousands of times.
    """
    in_order, num_pairs = _in_order(*np.asarray(pairs).T)
    return in_order / num_pairs if num_pairs else 0.5


def balanced_accuracy(pairs):
    """Mean of sensitivity and specificity, a class that is missing counting 0.5; see `auc`."""
    y_true, y_pred = np.asarray(pairs).T
    is_right = (y_pred > THRESHOLD) == (y_true > 0)
    return float(np.mean([is_right[y_true == label].mean() if (y_true == label).any() else 0.5 for label in (0, 1)]))


def auc_within_folds(patients):
    """AUC over pairs of patients tested by the same network, whose probabilities are on one scale.

    Parameters
    ----------
    patients : list of dict
        Of `patient_rows`.

    Returns
    -------
    float
        NaN where no fold tests both classes.
    """
    in_order, num_pairs = 0.0, 0
    for fold in sorted({patient["fold"] for patient in patients}):
        tested = [patient for patient in patients if patient["fold"] == fold]
        of_fold = _in_order(*_columns(tested, "diseased", "probability"))
        in_order, num_pairs = in_order + of_fold[0], num_pairs + of_fold[1]
    return in_order / num_pairs if num_pairs else float("nan")


def _in_order(y_true, y_pred):
    """How many pairs of a diseased and a healthy one are in order, ties counting half; and how many there are."""
    difference = y_pred[y_true > 0][:, None] - y_pred[y_true == 0]
    return float((difference > 0).sum() + 0.5 * (difference == 0).sum()), difference.size


def table_lines(table, tests):
    """The table and the tests as text, as README.rst has them.

    Parameters
    ----------
    table : list of dict
        Of `arm_row` and `constant_row`.
    tests : list of dict
        Of `with_correction`.

    Returns
    -------
    list of str
    """
    lines = [
        "arm              AUC (95 %)         in folds  balanced (95 %)    sens  spec  log-loss   CAM  gradient "
        "chance  swap  seconds"
    ]
    for row in table:
        shown = {
            name: f"{row[name]:.2f}" if row[name] is not None and np.isfinite(row[name]) else "-" for name in _SHOWN
        }
        seconds = "-" if row["training_seconds_of_fold"] is None else f"{row['training_seconds_of_fold']:.0f}"
        lines.append(
            f"{row['arm']:16s} {_with_interval(row, 'auc'):18s} {shown['auc_within_folds']:>8} "
            f" {_with_interval(row, 'balanced_accuracy'):18s} {shown['sensitivity']:>4}  {shown['specificity']:>4} "
            f"{row['log_loss_of_classes']:9.2f} {shown['share_hires_cam']:>5} {shown['share_gradient']:>9} "
            f"{shown['share_chance']:>6} {shown['swap_change_over_sd']:>5} {seconds:>8}"
        )
    for test in tests:
        if test["p_value"] is None:
            text = f"difference {test['difference_lower']:.2f} to {test['difference_upper']:.2f}"
        else:
            text = f"p {test['p_value']:.2g}, corrected {test['p_value_holm']:.2g}"
        lines.append(
            f"{test['a']} - {test['b']}, {test['measure']}: {test['mean_a']:.3g} and {test['mean_b']:.3g}, "
            f"{test['num_patients']} patients, {test['test']}, {text}"
        )
    return lines


def _with_interval(row, name):
    return f"{row[name]:.2f} ({row[f'{name}_lower']:.2f}-{row[f'{name}_upper']:.2f})"


def _columns(rows, *names):
    return [np.array([row[name] for row in rows], float) for name in names]
