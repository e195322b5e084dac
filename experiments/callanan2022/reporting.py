"""Tables of an experiment from the rows of its models: arms, tests between arms, the thesis's figures beside ours."""

from pathlib import Path

import numpy as np

from experiments.callanan2022.figures import distributions
from hcreg import statistics
from hcreg.files import write_json, write_rows
from hcreg.plotting import save
from hcreg.provenance import provenance

# As printed: heart overlap of its cross-entropy (frozen convolutions) and heatmap models; sex-label overlap.
THESIS_HEART = {
    1: {"cross_entropy_frozen": 0.2597, "heatmap": 0.7957},
    2: {"cross_entropy_frozen": 0.2548, "heatmap": 0.7961},
}
THESIS_LABEL_MEDIAN = {"cross_entropy_frozen": 5.7e-5, "heatmap": 6e-10}
THESIS_LABEL_MEAN = {"cross_entropy_frozen": 1.8e-4, "heatmap": 8.5e-4}

HEART, FAT, LABEL = (f"{region}_positive_hires_cam" for region in ("heart", "fat", "sex_label"))
EFFECT = "logit_change"
MEASURES = {
    HEART: "relevance in the heart, share",
    FAT: "relevance in body fat, share",
    LABEL: "relevance in the sex label, share",
    EFFECT: "change of logits by the sex label",
}
# Who is compared, and what the difference is worth.
PAIRS = (
    ("cross_entropy", "heatmap", "the loss, all else alike"),
    ("cross_entropy", "thesis_heatmap", "the thesis's loss, all else alike"),
    ("thesis_heatmap", "heatmap", "absolute relevance against the thesis's form"),
    ("cross_entropy_frozen", "cross_entropy_pretrained", "the confound: frozen convolutions"),
    ("cross_entropy_pretrained", "heatmap_pretrained", "the loss, from pretrained convolutions"),
    ("cross_entropy_frozen", "heatmap_pretrained", "the thesis's protocol: loss and confound"),
)
_FEWEST = 3  # models of an arm in a test
_FENCES = {"all values": None, "1.5 IQR": 1.5, "5 IQR": 5.0}


def report(experiment, rows, arms, folder):
    """Write the tables and figures of an experiment, and print them.

    Parameters
    ----------
    experiment : {1, 2}
    rows : list of dict
        Of the models.
    arms : list of str
    folder : path-like
    """
    folder = Path(folder)
    name = f"experiment{experiment}"
    write_rows(folder / f"{name}_models.csv", rows)
    trained = {arm: [row for row in rows if row["arm"] == arm] for arm in arms}
    accepted = {arm: [row for row in trained[arm] if row["accepted"]] for arm in arms}
    table = [_arm_row(experiment, arm, trained[arm], accepted[arm]) for arm in arms]
    write_rows(folder / f"{name}.csv", table)
    tests = comparisons(experiment, trained)
    write_rows(folder / f"{name}_tests.csv", tests)
    command = f"python -m experiments.callanan2022.{name} report --arms {' '.join(arms)}"
    write_json(folder / f"{name}.json", {"command": command, **provenance()})
    print("\n".join([*table_lines(table), *test_lines(tests)]))
    for number, measure in _figures(experiment).items():
        values = {arm: [row[measure] for row in accepted[arm] or trained[arm]] for arm in arms}
        paper = THESIS_HEART[experiment] if measure == HEART else THESIS_LABEL_MEDIAN if measure == LABEL else {}
        paper = {arm: paper[_thesis_arm(arm)] for arm in arms if _thesis_arm(arm) in paper}
        figure = distributions(values, MEASURES[measure], paper, logarithmic=measure in (LABEL, EFFECT))
        save(figure, folder / f"figure{number}.png")


def measures_of(experiment):
    """What is compared in an experiment: there is no sex label in the first.

    Parameters
    ----------
    experiment : {1, 2}

    Returns
    -------
    list of str
    """
    return [HEART, FAT] if experiment == 1 else [HEART, FAT, LABEL, EFFECT]


def comparisons(experiment, trained):
    """Tests between the accepted models of two arms, for each pair of arms and each measure.

    Parameters
    ----------
    experiment : {1, 2}
    trained : dict of str to list of dict
        Rows of models by arm. Of an arm with fewer than three accepted models all count, and ``models`` says so.

    Returns
    -------
    list of dict
    """
    tests = []
    for a, b, meaning in PAIRS:
        accepted = [[row for row in trained.get(arm, ()) if row["accepted"]] for arm in (a, b)]
        is_enough = all(len(rows) >= _FEWEST for rows in accepted)
        compared = accepted if is_enough else [trained.get(arm, ()) for arm in (a, b)]
        if any(len(rows) < _FEWEST for rows in compared):
            continue
        models = "accepted" if is_enough else "all"
        for measure in measures_of(experiment):
            values = [np.array([row[measure] for row in rows]) for rows in compared]
            for fences, k in _FENCES.items():
                if k is not None and measure != LABEL:
                    continue
                kept = values if k is None else [statistics.without_outliers(group, k) for group in values]
                about = {"a": a, "b": b, "meaning": meaning, "models": models, "measure": measure, "fences": fences}
                tests.append({**about, **_test(*kept)})
    return tests


def _test(a, b):
    found = statistics.compare_groups(a, b)
    rank = statistics.compare_groups(a, b, test="mann_whitney", method="asymptotic")
    return {
        "num_a": found.a.num,
        "num_b": found.b.num,
        "mean_a": found.a.mean,
        "mean_b": found.b.mean,
        "median_a": found.a.median,
        "median_b": found.b.median,
        "test": found.test,
        "p_value": found.p_value,
        "u": found.u,
        "p_value_as_in_thesis": rank.p_value,
        "cohens_d": found.cohens_d,
        "common_language_effect_size": found.common_language_effect_size,
    }


def _arm_row(experiment, arm, trained, accepted):
    row = {
        "arm": arm,
        "num_trained": len(trained),
        "num_accepted": len(accepted),
        "num_not_finite": sum(not model["finite"] for model in trained),
    }
    row["models"] = "accepted" if accepted else "all"
    accepted = accepted or trained
    for name, summary in (("validation_accuracy", np.mean), ("test_accuracy", np.mean), ("seconds", np.mean)):
        row[f"{name}_mean"] = _of(accepted, name, summary)
    for measure in measures_of(experiment):
        for summary in (np.mean, np.std, np.median, np.min, np.max):
            row[f"{measure}_{summary.__name__}"] = _of(accepted, measure, summary)
    row["heart_positive_grad_cam_mean"] = _of(accepted, "heart_positive_grad_cam", np.mean)
    row["inflation_median"] = _of(accepted, "inflation", np.median)
    paper_arm = _thesis_arm(arm)
    row["thesis_heart_mean"] = THESIS_HEART[experiment].get(paper_arm, float("nan"))
    if experiment == 2:
        row["thesis_sex_label_median"] = THESIS_LABEL_MEDIAN.get(paper_arm, float("nan"))
        row["thesis_sex_label_mean"] = THESIS_LABEL_MEAN.get(paper_arm, float("nan"))
    return row


def _thesis_arm(arm):
    """The thesis's arm whose figure stands beside one of ours: it has one heatmap loss, and frozen cross-entropy."""
    return "heatmap" if "heatmap" in arm else arm


def _of(rows, name, summary):
    values = [row[name] for row in rows if row[name] is not None]
    return float(summary(values)) if values else float("nan")


def _figures(experiment):
    """Numbers of the thesis's figures, and what they show."""
    return {"3_5": HEART} if experiment == 1 else {"3_18": HEART, "3_19": LABEL, "3_20": EFFECT}


def table_lines(table):
    """The table of arms as text, as README.rst has it.

    Parameters
    ----------
    table : list of dict
        Rows of ``experiment<N>.csv``.

    Returns
    -------
    list of str
    """
    lines = [
        "arm                      accepted accuracy         heart  thesis     fat  label median  label mean  effect"
    ]
    for row in table:
        heart = f"{row[f'{HEART}_mean']:.4f} ± {row[f'{HEART}_std']:.4f}"
        label = [f"{row[f'{LABEL}_{name}']:.1e}" if f"{LABEL}_mean" in row else "-" for name in ("median", "mean")]
        thesis = f"{row['thesis_heart_mean']:.4f}" if row["thesis_heart_mean"] > 0 else "-"
        accepted = f"{int(row['num_accepted']):>2}/{int(row['num_trained'])}"
        effect = f"{row[f'{EFFECT}_median']:.2f}" if f"{EFFECT}_median" in row else "-"
        lines.append(
            f"{row['arm']:24s} {accepted:8s} {row['test_accuracy_mean']:8.4f} "
            f"{heart:>15} {thesis:>6} {row[f'{FAT}_mean']:7.4f} {label[0]:>13} {label[1]:>11} "
            f"{effect:>7}"
        )
    return lines


def test_lines(tests):
    """The tests between arms as text, as README.rst has them.

    Parameters
    ----------
    tests : list of dict
        Rows of ``experiment<N>_tests.csv``.

    Returns
    -------
    list of str
    """
    return [_test_line(test) for test in tests]


def _test_line(test):
    models = f"{test['num_a']} and {test['num_b']} models" + (" (all)" if test["models"] == "all" else "")
    effect = f"d {test['cohens_d']:.2f}, CLES {test['common_language_effect_size']:.3f}"
    return (
        f"{test['a']} - {test['b']}, {MEASURES[test['measure']]}, {test['fences']}: {models}, {test['test']}, "
        f"p {test['p_value']:.1e}, U {test['u']:g}, {effect}"
    )
