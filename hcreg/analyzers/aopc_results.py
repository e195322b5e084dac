"""What AOPC found: error curves with intervals over images, baselines, and analyzers compared image by image."""

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from hcreg import statistics
from hcreg.analyzers.aopc_stream import Perturbation

NORMALIZATIONS = ("samek", "paper")
_NUM_RESAMPLES = 2000
_VALUES_AT_ONCE = 4_000_000  # of a resampling table: 32 MB


def aopc_scores(errors, normalization="samek"):
    r"""Area over the perturbation curve of each image, for errors: the more they grow, the more negative.

    .. math:: \mathrm{AOPC} = \frac{1}{K + 1} \sum_{k=0}^{K} (E_0 - E_k)

    Parameters
    ----------
    errors : array-like of shape (num_images, num_steps + 1), any unit
        E_0 of the clean image, then E_1 to E_K.
    normalization : {"samek", "paper"}
        ``"samek"`` divides by K + 1 as above [1]_, which is what the tables of [2]_ were computed with; ``"paper"``
        divides by K as its equation (9) is printed. The two differ by the factor (K + 1) / K.

    Returns
    -------
    ndarray of shape (num_images,), the unit of the errors
        More negative is better.

    References
    ----------
    .. [1] samek2017evaluating: Samek, Binder, Montavon, Lapuschkin, Müller: Evaluating the visualization of what a
       deep neural network has learned. IEEE TNNLS 28 (2017), equation (12).
    .. [2] zhang2021biometrics, section 4, Eq. 9.

    Examples
    --------
    >>> aopc_scores([[1.0, 2.0, 6.0]])
    array([-2.])
    >>> aopc_scores([[1.0, 2.0, 6.0]], "paper")
    array([-3.])
    """
    errors = np.asarray(errors, np.float64)
    num_steps = errors.shape[1] - 1
    divisor = {"samek": num_steps + 1, "paper": num_steps}[normalization]
    return (errors[:, :1] - errors).sum(axis=1) / divisor


@dataclass(frozen=True, eq=False)
class ErrorCurves:
    """Error against the number of perturbed regions, for one order of the regions.

    Attributes
    ----------
    errors : ndarray of shape (num_images, steps + 1)
        Of the clean image and after each step: means over noise draws, and over orders where there are several.
    scores : ndarray of shape (num_images,)
        AOPC of each image, in the unit of the errors. More negative: the error grew faster.
    mean_errors : ndarray of shape (steps + 1,)
        Means over images.
    errors_interval : ndarray of shape (2, steps + 1)
        Lower and upper ends of their confidence intervals; NaN for a single image (or group).
    mean_score : float
    score_interval : (float, float)
    """

    errors: np.ndarray = field(repr=False)
    scores: np.ndarray = field(repr=False)
    mean_errors: np.ndarray = field(repr=False)
    errors_interval: np.ndarray = field(repr=False)
    mean_score: float
    score_interval: tuple[float, float]


@dataclass(frozen=True, eq=False)
class AOPC(ErrorCurves):
    """What :func:`hcreg.analyzers.perturbation.aopc` found; curves, scores and intervals are those of `order`.

    Attributes
    ----------
    name : str
        Of the analyzer.
    order : str
    region_scores : ndarray of shape (num_images, regions...) or None
        The maps, region by region.
    region_order : ndarray of int, shape (num_images, num_regions)
        Numbers of the regions in the order they were replaced; C order over the grid.
    baselines : dict of str to ErrorCurves
        Other orders, with the same noise at the same pixels.
    predictions : ndarray of shape (num_images, steps + 1)
        Scaled outputs, means over draws.
    noise_sd : float
        How far the mean score would vary, by the noise alone, if the same images were perturbed again: its standard
        error over draws, in the unit of the errors. NaN for one draw.
    unit, normalization : str
    confidence : float
        Level of the intervals.
    perturbation : Perturbation
        Regions, noise and seed.
    draws : int
    groups : ndarray of shape (num_images,) or None
        Examination of each image.
    """

    name: str
    order: str
    region_scores: np.ndarray | None = field(repr=False)
    region_order: np.ndarray = field(repr=False)
    baselines: dict[str, ErrorCurves] = field(repr=False)
    predictions: np.ndarray = field(repr=False)
    noise_sd: float
    unit: str
    normalization: str
    confidence: float
    perturbation: Perturbation = field(repr=False)
    draws: int
    groups: np.ndarray | None = field(repr=False)


def curves_of(errors, normalization, groups, confidence, seed):
    """Scores, means and intervals of error curves.

    Parameters
    ----------
    errors : ndarray of shape (num_images, steps + 1)
    normalization : {"samek", "paper"}
    groups : array-like of shape (num_images,) or None
    confidence : float
    seed : int

    Returns
    -------
    dict
        Arguments of `ErrorCurves`.
    """
    scores = aopc_scores(errors, normalization)
    lower, upper = bootstrap_means(np.column_stack([errors, scores]), groups, confidence, seed)
    return {
        "errors": errors,
        "scores": scores,
        "mean_errors": errors.mean(axis=0),
        "errors_interval": np.stack([lower[:-1], upper[:-1]]),
        "mean_score": float(scores.mean()),
        "score_interval": (float(lower[-1]), float(upper[-1])),
    }


def bootstrap_means(values, groups=None, confidence=0.95, seed=0, num_resamples=_NUM_RESAMPLES):
    """Percentile bootstrap intervals of column means, all columns resampled together.

    Parameters
    ----------
    values : ndarray of shape (num_images, num_columns)
    groups : array-like of shape (num_images,), optional
        Whole groups are drawn, as in `hcreg.statistics.bootstrap_interval`, which takes one statistic at a time.
    confidence : float
    seed : int
    num_resamples : int

    Returns
    -------
    lower, upper : ndarray of shape (num_columns,)
        NaN where there is one group only.

    Notes
    -----
    Errors are not negative and often have a long tail, which a bootstrap follows and Student's interval does not; it
    also resamples examinations whole. Both are too narrow for fewer than about ten of them.
    """
    groups = np.arange(len(values)) if groups is None else groups
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        return np.full((2, values.shape[1]), np.nan)
    sums = np.zeros((len(sizes), values.shape[1]))
    np.add.at(sums, group_of, values)
    generator = np.random.default_rng(seed)
    means = np.empty((num_resamples, values.shape[1]))
    at_once = max(1, _VALUES_AT_ONCE // len(sizes))
    for start in range(0, num_resamples, at_once):
        part = means[start : start + at_once]
        drawn = generator.integers(len(sizes), size=(len(part), len(sizes)))
        drawn += len(sizes) * np.arange(len(part))[:, None]  # so that one count serves all resamples
        counts = np.bincount(drawn.reshape(-1), minlength=drawn.size).reshape(drawn.shape)
        part[:] = (counts @ sums) / (counts @ sizes)[:, None]
    tail = (1 - confidence) / 2
    return np.quantile(means, [tail, 1 - tail], axis=0)


def compare_analyzers(results, baselines=()):
    """Compare the AOPC of several analyzers image by image: a ranking without error bars is not a result.

    Parameters
    ----------
    results : sequence of AOPC, or dict of str to AOPC
        Of the same images, targets, model and perturbation. The keys of a dict name them; otherwise their own names
        do.
    baselines : sequence of str
        Baselines to compare too, such as ``("random",)``: an analyzer that is not better than a random order says
        nothing about the network. The baseline is that of the first result, since all have the same.

    Returns
    -------
    list of dict
        For each pair: the names ``analyzer`` and ``other_analyzer``, ``num_pairs``, ``mean_difference`` of the first's
        scores minus the second's (negative: the first is better), the ends of its bootstrap interval
        ``difference_lower`` and ``difference_upper`` (not corrected), ``median_difference``, ``p_value`` of
        Wilcoxon's signed-rank test, and ``p_value_holm``, the same after Holm's correction for all pairs.

    Raises
    ------
    ValueError
        If there are fewer than two to compare, names are repeated, a baseline is missing, or the results are not of the
        same images, targets, model and perturbation.

    Notes
    -----
    Where the results have groups, the images of one group count as one pair, by their mean score: images of one
    examination are not independent.

    References
    ----------
    .. [1] wilcoxon1945
    .. [2] holm1979
    """
    named = dict(results) if isinstance(results, dict) else {result.name: result for result in results}
    if len(named) < len(results):
        raise ValueError(
            f"Every result needs a name of its own. Received: {[result.name for result in results]}. "
            "Pass a dict of name to result."
        )
    if not named or len(named) + len(baselines) < 2:
        raise ValueError(f"A comparison needs at least two results. Received: {len(named)}.")
    first_name, first = next(iter(named.items()))
    for name, result in named.items():
        _check_comparable(first_name, first, name, result)
    scores = {name: result.scores for name, result in named.items()}
    for name in baselines:
        if name not in first.baselines or name in scores:
            raise ValueError(
                f"The baseline {name!r} must be one of the first result's and no analyzer's name. "
                f"It has: {sorted(first.baselines)}. Run aopc with baselines=({name!r},)."
            )
        scores[name] = first.baselines[name].scores
    pairs = list(combinations(scores, 2))
    differences = [scores[a] - scores[b] for a, b in pairs]
    intervals = [
        bootstrap_means(difference[:, None], first.groups, first.confidence, first.perturbation.seed)
        for difference in differences
    ]
    found = [statistics.compare_paired(*(_group_means(scores[name], first.groups) for name in pair)) for pair in pairs]
    corrected = statistics.holm([comparison.p_value for comparison in found])
    return [
        {
            "analyzer": a,
            "other_analyzer": b,
            "num_pairs": comparison.num_pairs,
            "mean_difference": float(difference.mean()),
            "difference_lower": float(lower[0]),
            "difference_upper": float(upper[0]),
            "median_difference": comparison.median_difference,
            "p_value": comparison.p_value,
            "p_value_holm": float(p_value_holm),
        }
        for (a, b), difference, (lower, upper), comparison, p_value_holm in zip(
            pairs, differences, intervals, found, corrected
        )
    ]


def _group_means(scores, groups):
    if groups is None:
        return scores
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return np.bincount(group_of, weights=scores) / sizes


def _check_comparable(first_name, first, name, result):
    if result.errors.shape != first.errors.shape:
        raise ValueError(
            "Results to compare must be of the same images and steps. Received errors of shape "
            f"{first.errors.shape} for {first_name!r} and {result.errors.shape} for {name!r}."
        )
    clean, other = first.errors[:, 0], result.errors[:, 0]
    # Batches of another size change the last digits of a float32 output.
    differs = np.flatnonzero(~np.isclose(clean, other, rtol=1e-3, atol=1e-4 * np.abs(first.predictions).max()))
    if differs.size:
        image = differs[0]
        raise ValueError(
            f"Results to compare must be of the same images, targets and model: clean image {image} has the error "
            f"{clean[image]:g} for {first_name!r} and {other[image]:g} for {name!r}."
        )
    for what in ("unit", "normalization", "draws"):
        if getattr(first, what) != getattr(result, what):
            raise ValueError(
                f"Results to compare must have one {what}. Received: {getattr(first, what)!r} for {first_name!r} and "
                f"{getattr(result, what)!r} for {name!r}."
            )
    if first.perturbation != result.perturbation:
        raise ValueError(
            f"Results to compare must be perturbed alike. Received: {first.perturbation} for {first_name!r} and "
            f"{result.perturbation} for {name!r}."
        )
    if (first.groups is None) != (result.groups is None) or (
        first.groups is not None and not np.array_equal(first.groups, result.groups)
    ):
        raise ValueError(f"Results to compare must have the same groups; {first_name!r} and {name!r} do not.")
