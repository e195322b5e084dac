"""Cells, intervals, comparisons and verdicts of Table 8, computed from the errors that its ``run`` has written."""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from hcreg import runs, statistics
from hcreg.analyzers.aopc_results import bootstrap_means
from hcreg.files import read_json, read_rows, write_json, write_rows
from hcreg.tables.comparing import aligned

RANDOM = "random"
SCORES, CURVES = "table8_scores.csv", "table8_curves.csv"
PROTOCOLS = {"paper": "px", "sound": "mm"}
SIGNIFICANT = 0.05
MOST, LEAST = "most_relevant_first", "least_relevant_first"
STABLE, INSENSITIVE = ("lrp.z", "input_t_gradient"), ("gradient", "deconvnet")

_TEXT = (
    "subject_id",
    "examination_id",
    "model",
    "analyzer",
    "other_analyzer",
    "protocol",
    "order",
    "claim",
    "criterion",
    "finding",
    "verdict",
)
_INTEGERS = ("trimester", "step")


@dataclass(frozen=True)
class Chosen:
    """The part of the table that is asked for.

    Attributes
    ----------
    models, analyzers : list of str
        In the table's order.
    """

    models: list
    analyzers: list


def cell_path(folder, model, analyzer):
    """File of a cell: pathlib.Path."""
    return Path(folder) / "cells" / model / f"{analyzer}.csv"


def report_table(folder, chosen, save):
    """Compute the table, print and save it.

    Parameters
    ----------
    folder : path-like
        Of ``run``, or one that was saved.
    chosen : Chosen
    save : path-like
        Where ``table8.csv``, ``table8_comparisons.csv``, ``table8_verdicts.csv``, and the scores and curves they were
        computed from, are written.

    Returns
    -------
    table, comparisons, verdicts : list of dict

    Raises
    ------
    ValueError
        If a cell is missing, or cells are of different images.
    """
    scores, curves = read_scores(folder, chosen), read_curves(folder, chosen)
    comparisons = compare_cells(scores, chosen)
    table = table_rows(scores, comparisons, chosen)
    found = verdicts(table, comparisons, chosen)
    print(format_table(table, chosen))
    for row in found:
        print(
            f"\n{row['claim']}\n  criterion: {row['criterion']}\n  found: {row['finding']}\n  verdict: {row['verdict']}"
        )
    save, record = Path(save), Path(folder) / runs.RUN_FILE
    named = {"table8": table, "table8_comparisons": comparisons, "table8_verdicts": found}
    for name, rows in named.items():
        write_rows(save / f"{name}.csv", rows)
    write_rows(save / SCORES, scores)
    write_rows(save / CURVES, curves)
    if record.is_file():
        write_json(save / runs.RUN_FILE, read_json(record))
    return table, comparisons, found


def read_scores(folder, chosen):
    """Score of each image in each cell, with those of the baselines.

    Parameters
    ----------
    folder : path-like
    chosen : Chosen

    Returns
    -------
    list of dict
        ``subject_id``, ``examination_id``, ``trimester``, ``model``, ``analyzer``, ``protocol``; ``score``, ``random``
        and ``least_relevant_first`` in px of the image ("paper") or mm ("sound"); the last is NaN in the paper's
        protocol.

    Raises
    ------
    ValueError
        If a cell is missing, or cells are of different images.
    """
    path = Path(folder) / SCORES
    if not _has_cells(folder) and path.is_file():
        rows = read_rows(path, text=_TEXT, integers=_INTEGERS)
        rows = [row for row in rows if row["model"] in chosen.models and row["analyzer"] in chosen.analyzers]
        _check_complete(folder, {(row["model"], row["analyzer"]) for row in rows}, chosen, ())
    else:
        rows = []
        for model, analyzer, cell in _cells(folder, chosen):
            if analyzer == RANDOM:
                random = {(row["protocol"], row["subject_id"]): row["score"] for row in cell}
                continue
            least = {(r["protocol"], r["subject_id"]): r["score"] for r in cell if r["order"] == LEAST}
            rows += [
                {
                    "subject_id": row["subject_id"],
                    "examination_id": row["examination_id"],
                    "trimester": row["trimester"],
                    "model": model,
                    "analyzer": analyzer,
                    "protocol": row["protocol"],
                    "score": row["score"],
                    "random": random[row["protocol"], row["subject_id"]],
                    "least_relevant_first": least.get((row["protocol"], row["subject_id"]), float("nan")),
                }
                for row in cell
                if row["order"] == MOST
            ]
    subjects = {}
    for row in rows:
        subjects.setdefault((row["model"], row["analyzer"], row["protocol"]), []).append(row["subject_id"])
    if len({tuple(found) for found in subjects.values()}) > 1:
        raise ValueError(f"The cells in {folder} are of different images; they cannot stand in one table.")
    return rows


def read_curves(folder, chosen):
    """Mean error after each step in each cell, with its interval over images.

    Parameters
    ----------
    folder : path-like
    chosen : Chosen

    Returns
    -------
    list of dict
        ``model``, ``analyzer`` (or "random"), ``protocol``, ``order``, ``step``, ``mean_error``, ``lower``, ``upper``.
    """
    path = Path(folder) / CURVES
    if not _has_cells(folder) and path.is_file():
        rows = read_rows(path, text=_TEXT, integers=_INTEGERS)
        return [row for row in rows if row["model"] in chosen.models and row["analyzer"] in (RANDOM, *chosen.analyzers)]
    rows = []
    for model, analyzer, cell in _cells(folder, chosen):
        for protocol, order in dict.fromkeys((row["protocol"], row["order"]) for row in cell):
            part = [row for row in cell if (row["protocol"], row["order"]) == (protocol, order)]
            errors = np.array([[row[key] for key in row if key.startswith("error_")] for row in part])
            lower, upper = bootstrap_means(errors, [row["examination_id"] for row in part])
            place = {"model": model, "analyzer": analyzer, "protocol": protocol, "order": order}
            rows += [
                {**place, "step": step, "mean_error": mean, "lower": low, "upper": high}
                for step, (mean, low, high) in enumerate(zip(errors.mean(axis=0), lower, upper))
            ]
    return rows


def _has_cells(folder):
    return (Path(folder) / "cells").is_dir()


def _cells(folder, chosen):
    wanted = [(model, name) for model in chosen.models for name in (RANDOM, *chosen.analyzers)]
    _check_complete(folder, {key for key in wanted if cell_path(folder, *key).is_file()}, chosen, (RANDOM,))
    for model, name in wanted:
        yield model, name, read_rows(cell_path(folder, model, name), text=_TEXT, integers=_INTEGERS)


def _check_complete(folder, there, chosen, besides):
    names = (*besides, *chosen.analyzers)
    missing = [f"{model} {name}" for model in chosen.models for name in names if (model, name) not in there]
    if missing:
        raise ValueError(
            f"{folder} lacks {len(missing)} cell(s): {', '.join(missing)}. Run them, or name the part to report with "
            "--models and --analyzers."
        )


def compare_cells(scores, chosen):
    """Compare every two analyzers, and each with a random order, on each network, image by image.

    Parameters
    ----------
    scores : list of dict
        Of `read_scores`.
    chosen : Chosen

    Returns
    -------
    list of dict
        For each network, protocol and pair: mean difference of the scores, first minus second (negative: the first is
        better), its bootstrap interval, Wilcoxon's p-value, and the same after Holm's correction for all pairs of that
        network and protocol. Images of one examination count as one pair, by their mean.
    """
    found = []
    for model in chosen.models:
        for protocol, unit in PROTOCOLS.items():
            columns, groups = _columns(scores, model, protocol, chosen)
            pairs = list(combinations(columns, 2))
            tests = [statistics.compare_paired(*(_by_group(columns[n], groups) for n in pair)) for pair in pairs]
            corrected = statistics.holm([test.p_value for test in tests])
            for (first, second), test, p_value_holm in zip(pairs, tests, corrected):
                difference = columns[first] - columns[second]
                (lower,), (upper,) = bootstrap_means(difference[:, None], groups)
                found.append(
                    {
                        "model": model,
                        "protocol": protocol,
                        "unit": unit,
                        "analyzer": first,
                        "other_analyzer": second,
                        "num_pairs": test.num_pairs,
                        "mean_difference": float(difference.mean()),
                        "difference_lower": float(lower),
                        "difference_upper": float(upper),
                        "median_difference": test.median_difference,
                        "p_value": test.p_value,
                        "p_value_holm": float(p_value_holm),
                    }
                )
    return found


def _columns(scores, model, protocol, chosen):
    """Scores of each analyzer and of the random order on the same images, and the images' examinations."""
    rows = [row for row in scores if (row["model"], row["protocol"]) == (model, protocol)]
    by_name = {name: [row for row in rows if row["analyzer"] == name] for name in chosen.analyzers}
    columns = {name: np.array([row["score"] for row in part]) for name, part in by_name.items()}
    first = by_name[chosen.analyzers[0]]
    columns[RANDOM] = np.array([row["random"] for row in first])
    return columns, [row["examination_id"] for row in first]


def _by_group(values, groups):
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return np.bincount(group_of, weights=values) / sizes


def table_rows(scores, comparisons, chosen):
    """The cells, with intervals over images and baselines.

    Parameters
    ----------
    scores : list of dict
        Of `read_scores`.
    comparisons : list of dict
        Of `compare_cells`.
    chosen : Chosen

    Returns
    -------
    list of dict
        For each network, analyzer and protocol; ``rank`` among the analyzers, 1 the best (the most negative score),
        the mean of their ranks for those whose scores agree to three digits.
    """
    table = []
    against = {
        (row["model"], row["protocol"], row["analyzer"]): row for row in comparisons if row["other_analyzer"] == RANDOM
    }
    for model in chosen.models:
        for protocol, unit in PROTOCOLS.items():
            columns, groups = _columns(scores, model, protocol, chosen)
            # lrp.z and input_t_gradient are one method on networks of ReLU, and differ by rounding only
            ranks = rankdata([float(f"{columns[name].mean():.3g}") for name in chosen.analyzers])
            for name, rank in zip(chosen.analyzers, ranks):
                part = [
                    row for row in scores if (row["model"], row["protocol"], row["analyzer"]) == (model, protocol, name)
                ]
                (lower,), (upper,) = bootstrap_means(columns[name][:, None], groups)
                test = against[model, protocol, name]
                table.append(
                    {
                        "model": model,
                        "analyzer": name,
                        "protocol": protocol,
                        "unit": unit,
                        "num_images": len(part),
                        "aopc": float(columns[name].mean()),
                        "aopc_lower": float(lower),
                        "aopc_upper": float(upper),
                        "random_order": float(columns[RANDOM].mean()),
                        "least_relevant_first": float(np.mean([row["least_relevant_first"] for row in part])),
                        "rank": float(rank),
                        "p_value_holm_random": test["p_value_holm"],
                        "better_than_random": int(_better(test)),
                    }
                )
    return table


def _better(comparison):
    return comparison["mean_difference"] < 0 and comparison["p_value_holm"] < SIGNIFICANT


def verdicts(table, comparisons, chosen):
    """What the paper concluded from its table, held against this one.

    Parameters
    ----------
    table, comparisons : list of dict
        Of `table_rows` and `compare_cells`.
    chosen : Chosen

    Returns
    -------
    list of dict
        For each claim and protocol: criterion, finding and verdict, in words with numbers.
    """
    found = []
    for protocol in PROTOCOLS:
        rows = {(row["model"], row["analyzer"]): row for row in table if row["protocol"] == protocol}
        ranks = {name: [rows[model, name]["rank"] for model in chosen.models] for name in chosen.analyzers}
        better = {
            name: [model for model in chosen.models if rows[model, name]["better_than_random"]]
            for name in chosen.analyzers
        }
        if set(STABLE) < set(chosen.analyzers):
            found.append(_stable(protocol, ranks, better, comparisons, len(chosen.models)))
        for name in INSENSITIVE:
            if name in chosen.analyzers:
                found.append(_insensitive(protocol, name, better, len(chosen.models)))
    return found


def _stable(protocol, ranks, better, comparisons, num_models):
    means = {name: float(np.mean(values)) for name, values in ranks.items()}
    ordered = sorted(means, key=means.get)
    first = set(ordered[:2]) == set(STABLE)
    sensitive = all(len(better[name]) == num_models for name in STABLE)
    beaten = sum(_significant(row, STABLE, protocol) for row in comparisons)
    finding = "mean rank and number of networks with a score better than random: " + ", ".join(
        f"{name} {means[name]:.2f} ({min(ranks[name]):g} to {max(ranks[name]):g}), {len(better[name])} of {num_models}"
        for name in ordered
    )
    finding += f"; in {beaten} paired comparisons another analyzer is significantly better than one of the two"
    verdict = "confirmed" if first and sensitive and not beaten else "not confirmed"
    return {
        "claim": f"LRP and Input*Gradient are the most stable ({protocol} protocol)",
        "criterion": "on every network better than a random order, the two lowest mean ranks, and no other analyzer "
        f"significantly better on any network (Holm-corrected p < {SIGNIFICANT})",
        "finding": finding,
        "verdict": verdict,
    }


def _significant(row, names, protocol):
    """Whether an analyzer beats one of the names in a comparison."""
    if row["protocol"] != protocol or row["p_value_holm"] >= SIGNIFICANT or RANDOM in row.values():
        return False
    loser = row["other_analyzer"] if row["mean_difference"] < 0 else row["analyzer"]
    winner = row["analyzer"] if row["mean_difference"] < 0 else row["other_analyzer"]
    return loser in names and winner not in names


def _insensitive(protocol, name, better, num_models):
    sensitive = better[name]
    verdict = f"on {num_models - len(sensitive)} of {num_models} networks only"
    if len(sensitive) in (0, num_models):
        verdict = "not confirmed" if sensitive else "confirmed"
    return {
        "claim": f"{name} is insensitive ({protocol} protocol)",
        "criterion": "on no network better than a random order of the regions (mean difference below 0 and "
        f"Holm-corrected p < {SIGNIFICANT})",
        "finding": f"better than random on {len(sensitive)} of {num_models}: {', '.join(sensitive) or 'none'}",
        "verdict": verdict,
    }


def format_table(table, chosen):
    """The table in the paper's layout, a line for each network: one part for each protocol.

    Parameters
    ----------
    table : list of dict
        Of `table_rows`.
    chosen : Chosen

    Returns
    -------
    str
    """
    parts = []
    for protocol, unit in PROTOCOLS.items():
        rows = {(row["model"], row["analyzer"]): row for row in table if row["protocol"] == protocol}
        lines = [[f"AOPC ({unit}), {protocol}", *chosen.analyzers, "random order"]]
        for model in chosen.models:
            cells = []
            for name in chosen.analyzers:
                row = rows[model, name]
                star = "*" if row["better_than_random"] else ""
                cells.append(f"{row['aopc']:.2f}{star} [{row['aopc_lower']:.2f}, {row['aopc_upper']:.2f}]")
            lines.append([model, *cells, f"{rows[model, chosen.analyzers[0]]['random_order']:.2f}"])
        parts.append(aligned(lines))
    num_images = table[0]["num_images"]
    parts.append(
        f"{num_images} images; more negative is better; in brackets 95 % intervals over examinations; * better than a "
        f"random order (Holm-corrected p < {SIGNIFICANT})."
    )
    return "\n\n".join(parts)
