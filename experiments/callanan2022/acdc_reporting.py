"""The table of NOR against diseased from what the runs left: the arms, the constant, and the arms side by side."""

from dataclasses import dataclass

import numpy as np

from experiments.callanan2022.acdc_statistics import THRESHOLD, auc, auc_within_folds, balanced_accuracy, mcnemar
from hcreg import statistics

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
    "training_auc",
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


@dataclass(frozen=True)
class ArmRuns:
    """What the runs of one arm left, of all folds and seeds.

    Attributes
    ----------
    rows : list of dict
        Of ``predictions.csv``: the test stacks.
    training_rows : list of dict
        Of ``training_predictions.csv``: the stacks each network was trained on.
    history : list of dict
        Of ``history.csv``, with "seed" and "fold".
    records : list of dict
        Of ``run.json``.
    """

    rows: list
    training_rows: list
    history: list
    records: list


def patient_rows(rows):
    """One row for each patient: the mean over both phases, and over seeds where there are several.

    Parameters
    ----------
    rows : list of dict
        Of ``predictions.csv``, of one arm; or of ``training_predictions.csv``, of one network.

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
                **{name: float(np.mean([row[name] for row in stacks])) for name in _MEANS if name in stacks[0]},
            }
        )
    return found


def arm_row(arm, runs):
    """Everything the table says of an arm.

    Parameters
    ----------
    arm : str
    runs : ArmRuns

    Returns
    -------
    dict
        Of the test patients, intervals being 95 % bootstrap intervals over patients; ``training_...`` of the finished
        networks and the patients each was trained on, see `training_measures`; ``last_epoch_...`` as trained, on
        augmented stacks, normalised by their own batch; commits of the runs, those that differ, in one cell.
    """
    rows, records = runs.rows, runs.records
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
    row |= training_measures(runs.training_rows)
    last = max(each["epoch"] for each in runs.history)
    for name in ("loss", "accuracy"):
        row[f"last_epoch_{name}"] = float(np.mean([each[name] for each in runs.history if each["epoch"] == last]))
    row["epochs"] = records[0]["arguments"]["protocol"]["epochs"]
    row["training_seconds_of_fold"] = float(np.mean([record["training_seconds"] for record in records]))
    row["num_parameters"] = records[0]["num_parameters"]
    row["commit"] = " ".join(commits_of(records))
    return row


def training_measures(rows):
    """How well finished networks know the patients they were trained on, by their moving statistics.

    A network that does not know these either has learnt too little, or its moving statistics do not suit it (then the
    history says otherwise); one that knows these alone has learnt them by heart.

    Parameters
    ----------
    rows : list of dict
        Of ``training_predictions.csv``, all folds and seeds.

    Returns
    -------
    dict
        Means over networks: ``training_auc``, ``training_balanced_accuracy``, ``training_share_hires_cam``.
    """
    networks = {}
    for row in rows:
        networks.setdefault((row["seed"], row["fold"]), []).append(row)
    measured = []
    for of_network in networks.values():
        patients = patient_rows(of_network)
        pairs = np.column_stack(_columns(patients, "diseased", "probability"))
        share = np.mean([patient["share_hires_cam"] for patient in patients])
        measured.append((auc(pairs), balanced_accuracy(pairs), share))
    names = ("training_auc", "training_balanced_accuracy", "training_share_hires_cam")
    return dict(zip(names, np.mean(measured, axis=0).tolist()))


def commits_of(records):
    """The commits that runs were made with, each once.

    Parameters
    ----------
    records : list of dict
        Of ``run.json``.

    Returns
    -------
    list of str
        Sorted; "unknown" for runs of a copy without its history.
    """
    return sorted({record["commit"] or "unknown" for record in records})


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
    known |= {name: 0.5 for name in row if name.removeprefix("training_").startswith(("auc", "balanced_accuracy"))}
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
        "arm              trained  AUC (95 %)         in folds  balanced (95 %)    sens  spec  log-loss   CAM  "
        "gradient chance  swap  seconds"
    ]
    for row in table:
        shown = {
            name: f"{row[name]:.2f}" if row[name] is not None and np.isfinite(row[name]) else "-" for name in _SHOWN
        }
        seconds = "-" if row["training_seconds_of_fold"] is None else f"{row['training_seconds_of_fold']:.0f}"
        lines.append(
            f"{row['arm']:16s} {shown['training_auc']:>7}  {_with_interval(row, 'auc'):18s} "
            f"{shown['auc_within_folds']:>8}  {_with_interval(row, 'balanced_accuracy'):18s} "
            f"{shown['sensitivity']:>4}  {shown['specificity']:>4} {row['log_loss_of_classes']:9.2f} "
            f"{shown['share_hires_cam']:>5} {shown['share_gradient']:>9} {shown['share_chance']:>6} "
            f"{shown['swap_change_over_sd']:>5} {seconds:>8}"
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
