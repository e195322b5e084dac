"""The explanation part of a run's report: maps of a few test images, and whether the maps say anything.

How good a map is, AOPC measures on some dozens of test images: the error must grow faster when the regions that an
analyzer calls relevant are replaced by noise than when regions in random order are.
"""

import math

import numpy as np

from hcreg import plotting
from hcreg.analyzers.perturbation import aopc, compare_analyzers
from hcreg.explanation.explainer import Explainer
from hcreg.report import Number, Picture, Section, Table

SHOWN = ("gradient", "guided_backprop", "integrated_gradients", "lrp.epsilon", "hires_cam", "deep_taylor")
RANKED = ("gradient", "integrated_gradients", "lrp.epsilon", "deep_taylor")
NUM_RANKED = 24
# A quarter of the image is replaced: where only noise is left, a network's answer has no bounds, and a mean over all
# steps would be that answer.
_REGIONS, _STEPS, _DRAWS = (8, 8), 16, 2
_SIGNIFICANT = 0.05
_DPI = 160  # a pixel of the network's input is 1.5 of the picture's
_ONE_EXAMINATION = "one examination only"

_TEST = (
    "An analyzer asks the network which pixels its answer for an image depends on, each analyzer in a way of its own, "
    "and gives a map. Maps can mislead, so some of them are put to a test: if a map is right, replacing by noise what "
    "it calls relevant must spoil the prediction sooner than replacing anything else."
)
_READING = (
    "Colours compare places within a map, not two maps: each has a scale of its own. In maps of relevance, orange "
    "speaks for a longer circumference and blue for a shorter one; in the gradient, orange is where brighter pixels "
    "would lengthen it.",
    "A map tells what the network uses, not where the head is. One that looks like the skull does not make the "
    "measurement right, and one that does not look like it does not make it wrong.",
    "deep_taylor hardly depends on the network: it looks much the same when all weights are drawn anew, and "
    "guided_backprop keeps much of its look. What they show is to a large part the image itself.",
    "lrp.epsilon, with so small an epsilon, is lrp.z, which on a network of ReLUs equals the image times its gradient: "
    "three names of one method.",
    "Noise is not ultrasound: a part of the error comes from images that are strange to the network wherever the noise "
    "lies. That is why regions in random order are replaced too, by the same noise.",
)
_CAPTIONS = {
    "explanation_maps": (
        "Test images of median error, one a trimester, and the maps of their predictions by several analyzers.",
        "Orange: positive, blue: negative; red to yellow: a map without a sign; s is in mm (of gradient and "
        "guided_backprop, per unit of the network's input). Ask whether what is coloured belongs to the head. A strong "
        "map in a corner, on a caliper or at the border of the beam means that the network measures by something else.",
    ),
    "explanation_aopc": (
        "Mean error on test images of which one region after another is replaced by noise.",
        "Solid: the regions first that an analyzer calls most relevant, which should rise fastest. Dashed: the least "
        "relevant first, which should stay low. Dotted: random order. An analyzer that does not rise above the dotted "
        "line has not shown that it knows this network.",
    ),
}


def explanation_section(run_folder, records, rows, *, save_to=None):
    """Explain some test images of a finished run.

    Parameters
    ----------
    run_folder : path-like
    records : sequence of hcreg.datasets.HC18Record
        The test images.
    rows : sequence of dict
        The run's ``predictions.csv``.
    save_to : path-like, optional
        Folder in which the two figures are kept too.

    Returns
    -------
    hcreg.report.Section

    Notes
    -----
    Shown are, of each trimester, the image of median absolute error. Ranked are `NUM_RANKED` images spread evenly over
    the range of circumferences: their AOPC is that of `hcreg.analyzers.perturbation.aopc` with two noise draws, regions
    ranked by mean absolute relevance, and the error in mm of the annotated circumference.
    """
    by_subject = {record.subject_id: record for record in records}
    typical = _typical(rows)
    subjects = list(dict.fromkeys([row["subject_id"] for row in typical] + _spread(rows)))
    records = [by_subject[subject_id] for subject_id in subjects]
    explainer = Explainer(run_folder, SHOWN)
    found = explainer.explain_each(
        [record.image_path for record in records], [record.pixel_size_mm for record in records]
    )
    explained = {
        subject_id: explanation
        for subject_id, explanation in zip(subjects, found)
        if not isinstance(explanation, Exception)
    }
    typical = [row for row in typical if row["subject_id"] in explained]
    figures, results = {}, {}
    if typical:
        figures["explanation_maps"] = _maps_figure(typical, explained)
        results = _ranked(explainer.model, explained, by_subject)
    tables = ()
    if results:
        figures["explanation_aopc"] = plotting.perturbation_curves(results)
        tables = (_aopc_table(results),)
    if save_to is not None:
        for name, figure in figures.items():
            plotting.save(figure, f"{save_to}/{name}.png")
    return Section(
        "Where the predictions come from",
        paragraphs=(_TEST, *_verdict(results)),
        points=_READING,
        tables=tables,
        pictures=tuple(Picture(figure, *_CAPTIONS[name]) for name, figure in figures.items()),
    )


def _typical(rows):
    """Of each trimester, the row of median absolute error."""
    chosen = []
    for trimester in sorted({row["trimester"] for row in rows}):
        of_it = [row for row in rows if row["trimester"] == trimester and math.isfinite(row["y_pred_mm"])]
        of_it.sort(key=lambda row: (abs(row["y_pred_mm"] - row["y_true_mm"]), row["subject_id"]))
        chosen += of_it[len(of_it) // 2 : len(of_it) // 2 + 1]
    return chosen


def _spread(rows):
    """Subjects of `NUM_RANKED` images, at even distances in the order of their circumference."""
    ordered = sorted(rows, key=lambda row: (row["y_true_mm"], row["subject_id"]))
    places = np.unique(np.linspace(0, len(ordered) - 1, min(NUM_RANKED, len(ordered))).round().astype(int))
    return [ordered[place]["subject_id"] for place in places]


def _maps_figure(typical, explained):
    shown = [explained[row["subject_id"]] for row in typical]
    lines = [
        f"trimester {row['trimester']}\ntrue {row['y_true_mm']:.0f} mm\npred. {row['y_pred_mm']:.0f} mm"
        for row in typical
    ]
    names = [name for name in SHOWN if all(name in explanation.maps for explanation in shown)]
    maps = {name: [explanation.at_image(name) for explanation in shown] for name in names}
    figure = plotting.saliency_grid({line: explanation.image for line, explanation in zip(lines, shown)}, maps)
    figure.set_dpi(_DPI)
    return figure


def _ranked(model, explained, by_subject):
    """AOPC of each analyzer that could explain every one of the images."""
    explanations = list(explained.values())
    records = [by_subject[subject_id] for subject_id in explained]
    results = {}
    for name in RANKED:
        if not all(name in explanation.maps for explanation in explanations):
            continue
        results[name] = aopc(
            model,
            np.stack([explanation.maps[name] for explanation in explanations]),
            np.stack([explanation.inputs for explanation in explanations]),
            [record.hc_mm for record in records],
            regions=_REGIONS,
            steps=_STEPS,
            draws=_DRAWS,
            scale=np.array([explanation.mm_per_output for explanation in explanations]),
            unit="mm",
            baselines=("least_relevant_first",) if results else ("random", "least_relevant_first"),
            random_orders=1,
            region_score="mean_absolute",
            groups=[record.examination_id for record in records],
            name=name,
        )
    return results


def _against_random(results):
    """Comparison of each analyzer with the random order, by analyzer."""
    pairs = compare_analyzers(results, baselines=("random",))
    return {pair["analyzer"]: pair for pair in pairs if pair["other_analyzer"] == "random"}


def _verdict(results):
    """What the test of the maps found, in one sentence or two."""
    if not results:
        return ("No map could be tested: the analyzers are not defined for this network, or nothing was measured.",)
    passed, failed = [], []
    for name, pair in _against_random(results).items():
        is_better = pair["mean_difference"] < 0 and pair["p_value_holm"] < _SIGNIFICANT
        (passed if is_better else failed).append(name)
    num_images = len(next(iter(results.values())).errors)
    if not passed:
        text = f"On {num_images} test images none of {', '.join(failed)} passed this test: take the maps with caution."
        return (text,)
    text = f"On {num_images} test images {', '.join(passed)} passed this test"
    return (f"{text}; for {', '.join(failed)} nothing could be shown." if failed else f"{text}.",)


def _aopc_table(results):
    against = _against_random(results)
    first = next(iter(results.values()))
    rows = []
    for name, result in results.items():
        pair = against[name]
        rows.append(
            (
                name,
                Number(result.mean_score, 1, signed=True),
                Number(result.score_interval[0], 1, signed=True, reason=_ONE_EXAMINATION),
                Number(result.score_interval[1], 1, signed=True, reason=_ONE_EXAMINATION),
                Number(pair["mean_difference"], 1, signed=True),
                Number(pair["p_value_holm"], 3),
            )
        )
    random = first.baselines["random"]
    interval = (Number(end, 1, signed=True, reason=_ONE_EXAMINATION) for end in random.score_interval)
    nothing = Number(None, reason="it is what the others are compared with")
    rows.append(("random order", Number(random.mean_score, 1, signed=True), *interval, nothing, nothing))
    columns = ("Analyzer", "AOPC (mm)", "95 % interval from", "to", "Difference to random order (mm)", "p (Holm)")
    caption = (
        "AOPC, area over the perturbation curve: the error of the clean image less the mean error while regions are "
        f"replaced by noise; the more negative, the faster the error grows. {len(first.errors)} images of "
        f"{_REGIONS[0]} x {_REGIONS[1]} regions, of which {_STEPS} are replaced one by one; {_DRAWS} draws of noise. "
        "p: paired Wilcoxon tests over examinations, corrected for all comparisons (Holm)."
    )
    return Table(columns, tuple(rows), caption)
