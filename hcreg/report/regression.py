"""What a regression run is told with: its answer in one sentence, and the sections in reading order."""

from hcreg.report.page import NOT_A_DEVICE, Section, is_finite, shown, write_report
from hcreg.report.sections import (
    count,
    data_and_split,
    each_image,
    how_to_reproduce,
    network_and_training,
    pictures_of,
    results,
    results_by_trimester,
    shared_examinations,
    what_to_keep_in_mind,
)
from hcreg.report.wording import ERROR_FIGURES, FIGURES, GLOSSARY

# fmt: off
SUMMARY_KEYS = (
    "num_subjects", "num_examinations", "mae_mm", "mae_sd_mm", "median_ae_mm", "bias_mm", "p95_ae_mm",
    "mae_px", "mae_sd_px", "pmae_percent", "rmse_mm", "r2", "coverage", "mean_interval_width_mm",
    "constant_mae_mm", "constant_mae_px", "constant_pmae_percent", "fold_sd_mm",
)
# fmt: on


def regression_report(
    path,
    *,
    title,
    data_description,
    model_description,
    rows,
    summary,
    by_trimester,
    figures,
    provenance,
    history=(),
    splits=None,
    constant_summary=None,
    interval_level=None,
    synthetic=False,
    caveats=(),
    extra_sections=(),
):
    """Write the report of a network that predicts head circumference.

    Parameters
    ----------
    path : path-like
        The HTML file to write.
    title, data_description, model_description : str
        The descriptions are one paragraph each, for a reader who does not know the code.
    rows : sequence of dict
        The per-subject table (``predictions.csv``).
    summary : dict
        What `hcreg.evaluation.summarise` computes from `rows`, with the keys `SUMMARY_KEYS`; ``coverage``
        is a fraction, a NaN shows as a dash with its reason.
    by_trimester : mapping of int to dict
        The same for the images of each trimester.
    figures : mapping of str to Figure or bytes
        Any of `FIGURES`, as `hcreg.plotting.regression_figures` draws them.
    provenance : dict
        ``command``, ``seed``, ``versions`` (a dict), ``commit``, ``seconds``, and whatever else helps to
        repeat the run.
    history : sequence of dict
        Rows of ``history.csv``.
    splits : mapping of str to sequence, optional
        Name of each part of the data -> its records (`hcreg.datasets.HC18Record`, or rows with
        ``examination_id``, ``trimester``, and ``hc_mm`` or ``y_true_mm``). The report counts them, and says
        whether an examination is in two parts.
    constant_summary : dict, optional
        Summary of the same rows with the constant guess as prediction, which fills the column beside the
        network's; without it that column has only what `summary` holds.
    interval_level : float, optional
        How often the intervals promise to contain the true HC, as a fraction.
    synthetic : bool
        Whether the images are synthetic; the page then says so at the top.
    caveats : sequence of str
        Further ones of this run.
    extra_sections : sequence of Section
        Shown after the cases: an explanation of the network, say.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        If a summary lacks a key, a figure has a name without a caption, or the coverage is no fraction.
    """
    _check_summary("summary", summary)
    for trimester, part in by_trimester.items():
        _check_summary(f"by_trimester[{trimester}]", part)
    if constant_summary:
        _check_summary("constant_summary", constant_summary)
    unknown = [name for name in figures if name not in FIGURES]
    if unknown:
        raise ValueError(
            f"No caption is known for the figures {unknown}. Known: {', '.join(FIGURES)}. "
            "Hand in others as pictures of a Section in extra_sections."
        )
    shared = shared_examinations(splits)
    sections = [
        results(summary, constant_summary, interval_level),
        results_by_trimester(summary, by_trimester),
        Section("What the errors look like", pictures=pictures_of(figures, ERROR_FIGURES)),
        Section("Worst and best cases", pictures=pictures_of(figures, ("worst_cases", "best_cases"))),
        *extra_sections,
        data_and_split(data_description, splits, shared, figures),
        network_and_training(model_description, history, figures),
        each_image(rows),
        Section("Glossary", terms=GLOSSARY),
        how_to_reproduce(provenance),
        what_to_keep_in_mind(synthetic, caveats),
    ]
    empty = Section("").__dict__
    sections = [section for section in sections if section.__dict__ != empty | {"title": section.title}]
    notices = [f"This is {NOT_A_DEVICE}: do not base any decision on a patient on it."]
    if synthetic:
        notices.append(
            "The images are synthetic: drawn by a program, not taken from patients. The numbers show that "
            "the method runs and learns; they say nothing about its accuracy on real ultrasound."
        )
    if shared:
        notices.append(f"The test is not a fair one: {shared}")
    return write_report(path, title, sections, answer=headline(summary, unseen=not shared), notices=notices)


def _check_summary(name, summary):
    missing = [key for key in SUMMARY_KEYS if key not in summary]
    if missing:
        raise ValueError(
            f"{name} lacks {', '.join(missing)}. Pass what hcreg.evaluation.summarise returns for the rows."
        )
    coverage = summary["coverage"]
    if is_finite(coverage) and not 0 <= coverage <= 1:
        raise ValueError(f"{name}['coverage'] must be a fraction from 0 to 1. Received: {coverage}")


def headline(summary, unseen=True):
    """Return the answer of a run in one sentence, and a second one where the network is of no use.

    Parameters
    ----------
    summary : dict
        As in `regression_report`.
    unseen : bool
        Whether no examination of these images was trained on.

    Returns
    -------
    str
    """
    images = count(summary["num_subjects"], f"{'unseen ' if unseen else ''}image")
    mae_mm, constant_mm = summary["mae_mm"], summary["constant_mae_mm"]
    if not is_finite(mae_mm):
        return f"On {images} the error of the network could not be computed: not every image has a prediction."
    text = f"On {images} of {count(summary['num_examinations'], 'examination')} the network missed "
    text += f"the head circumference by {shown(mae_mm)} mm on average"
    if not is_finite(constant_mm):
        return f"{text}."
    text += f" (constant guess: {shown(constant_mm)} mm)."
    if mae_mm >= constant_mm:
        text += " It is no better than guessing the same value for every image."
    return text
