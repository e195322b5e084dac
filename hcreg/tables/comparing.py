"""Compare the rows of a table in pairs, image by image."""

from itertools import combinations

import numpy as np

from hcreg import statistics


def compare_rows(predictions):
    """Compare the absolute errors of every two rows, image by image.

    Parameters
    ----------
    predictions : dict of str to list of dict
        As `hcreg.tables.reading.read_table` gives it. Rows tested on different images are not compared.

    Returns
    -------
    list of dict
        For each pair: mean and median of the first's error minus the second's (mm), the p-value of Wilcoxon's
        signed-rank test, and the same after Holm's correction for all pairs; and Pearson's correlation of the two
        *signed* errors (NaN where one never varies): near 1, both err on the same images and in the same direction,
        which points to the images or their annotations and not to the networks. Empty for a table of one row.

    Notes
    -----
    An image in which one of the two measured nothing is left out of their pair; ``num_pairs`` counts the others. If
    there are none, neither is the pair.

    Several images of one examination count as several pairs, so p-values are a little too small.
    """
    errors = {
        name: {row["subject_id"]: row["y_pred_mm"] - row["y_true_mm"] for row in rows}
        for name, rows in predictions.items()
    }
    pairs, found, correlations = [], [], []
    for first, second in combinations(errors, 2):
        if errors[first].keys() != errors[second].keys():
            continue
        both = [(errors[first][subject], errors[second][subject]) for subject in sorted(errors[first])]
        both = [pair for pair in both if pair[0] == pair[0] and pair[1] == pair[1]]
        if both:
            pairs.append((first, second))
            signed = np.array(both, float).T
            found.append(statistics.compare_paired(*np.abs(signed)))
            varies = len(both) > 1 and np.all(np.ptp(signed, axis=1) > 0)
            correlations.append(float(np.corrcoef(signed)[0, 1]) if varies else float("nan"))
    if not pairs:
        return []
    corrected = statistics.holm([comparison.p_value for comparison in found])
    return [
        {
            "row": first,
            "other_row": second,
            "num_pairs": comparison.num_pairs,
            "mean_difference_mm": comparison.mean_difference,
            "median_difference_mm": comparison.median_difference,
            "p_value": comparison.p_value,
            "p_value_holm": float(p_value_holm),
            "error_correlation": correlation,
        }
        for (first, second), comparison, p_value_holm, correlation in zip(pairs, found, corrected, correlations)
    ]


def format_comparisons(comparisons):
    """The comparisons as text.

    Parameters
    ----------
    comparisons : list of dict
        Of `compare_rows`.

    Returns
    -------
    str
    """
    lines = [["absolute error of", "minus that of", "mean (mm)", "median (mm)", "p (Wilcoxon)", "p (Holm)"]]
    lines[0].append("correlation of errors")
    for item in comparisons:
        differences = [f"{item[name]:+.2f}" for name in ("mean_difference_mm", "median_difference_mm")]
        p_values = [f"{item[name]:.2g}" for name in ("p_value", "p_value_holm")]
        correlation = item["error_correlation"]
        shared = f"{correlation:.2f}" if correlation == correlation else "-"
        lines.append([item["row"], item["other_row"], *differences, *p_values, shared])
    return aligned(lines)


def with_holm(comparisons):
    """Comparisons with Holm's correction over all of them.

    Parameters
    ----------
    comparisons : list of dict
        With ``p_value``.

    Returns
    -------
    list of dict
        With ``p_value_holm`` at the end of each.
    """
    if not comparisons:
        return []
    corrected = statistics.holm([comparison["p_value"] for comparison in comparisons])
    return [{**comparison, "p_value_holm": float(p_value)} for comparison, p_value in zip(comparisons, corrected)]


def aligned(lines):
    """Cells as text, column under column.

    Parameters
    ----------
    lines : list of list of str

    Returns
    -------
    str
    """
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
