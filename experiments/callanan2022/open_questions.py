"""What the thesis leaves open: harder data, a marker that always comes with a class, other losses, and what is gamed.

python -m experiments.callanan2022.open_questions run --out runs/callanan2022
python -m experiments.callanan2022.open_questions report --out runs/callanan2022 --save experiments/callanan2022/results

``--questions`` names a part, so that several processes can share the work; models that are there are skipped.
"""

import argparse
import logging
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from experiments.callanan2022.alignment import alignment
from experiments.callanan2022.comparison import SMOKE
from experiments.callanan2022.protocol import ALL_CLASSES, CROSS_ENTROPY, DEFAULT, HEATMAP, THESIS, Arm, Data, train
from hcreg.files import plain, read_json, write_json, write_rows
from hcreg.progress import progress_bar
from hcreg.provenance import provenance

NUM_SEEDS = {"alignment": 3, "maps_and_data_terms": 2, "weights": 2, "harder": 2, "fewer_images": 2}
LEARNING_RATE, BATCH_SIZE = 5e-3, 16
# Of batches: so many whatever the size of the training set.
NUM_STEPS, _SMOKE_STEPS = 780, 4

# Classes so alike that the block is easier to learn than the heart: lengths differ by a tenth of what they do else.
_MARKED = Data(2, num_test=2000, difference=0.1, marker="ARV", test_marker="random")


@dataclass(frozen=True)
class Case:
    """One way to train on one set of images.

    Attributes
    ----------
    arm : Arm
    data : Data
    """

    arm: Arm
    data: Data

    @property
    def name(self):
        """Of its folder and rows."""
        return self.arm.name


def _named(arm, name, **changes):
    return replace(arm, name=name, **changes)


def _marked(arm, name=None, **changes):
    return Case(_named(arm, name or arm.name, **changes), _MARKED)


def _alike(data, suffix, arms):
    return [Case(_named(arm, f"{arm.name}_{suffix}"), data) for arm in arms]


QUESTIONS = {
    # A block that is there exactly in one class. Which penalties make a network blind to it, which only its map?
    "alignment": [
        _marked(CROSS_ENTROPY, "none"),
        _marked(HEATMAP, "absolute"),
        _marked(HEATMAP, "absolute_with_swap", swap_weight=1.0),
        _marked(CROSS_ENTROPY, "swap_alone", swap_weight=1.0),
        _marked(HEATMAP, "share", attention="share"),
        _marked(THESIS, "thesis"),
        _marked(HEATMAP, "thesis_form_x10", attention="thesis"),
        _marked(HEATMAP, "signed", attention="signed", weight=1.0),
        _marked(HEATMAP, "inside", attention="inside"),
        _marked(ALL_CLASSES, "absolute_all_classes"),
        _marked(ALL_CLASSES, "absolute_all_classes_with_swap", swap_weight=1.0),
        _marked(DEFAULT, "default"),
        _marked(DEFAULT, "default_with_swap", swap_weight=1.0),
        _marked(ALL_CLASSES, "absolute_all_classes_x100_no_ramp", weight=100.0, ramp_steps=0),
        _marked(ALL_CLASSES, "shuffled_masks", shuffled_masks=True),
    ],
    "maps_and_data_terms": [
        _marked(ALL_CLASSES, "grad_cam_absolute", cam="grad_cam"),
        _marked(ALL_CLASSES, "mse_absolute", data="mse"),
        _marked(DEFAULT, "mse_default", data="mse"),
        _marked(CROSS_ENTROPY, "mse_alone", data="mse"),
        _marked(THESIS, "thesis_cross_entropy", data="cross_entropy", probabilities="softmax"),
    ],
    "weights": [_marked(ALL_CLASSES, f"weight_{weight:g}", weight=weight) for weight in (0.01, 0.1, 1.0, 100.0)]
    + [_marked(DEFAULT, f"weight_{weight:g}_tied", weight=weight) for weight in (1.0, 100.0)],
    "harder": [
        case
        for experiment, difference in ((1, 0.7), (2, 0.1), (2, 0.05))
        for case in _alike(
            Data(experiment, num_test=2000, difference=difference),
            f"experiment{experiment}_difference_{difference:g}",
            (CROSS_ENTROPY, ALL_CLASSES, DEFAULT),
        )
    ],
    "fewer_images": [
        case
        for number in (100, 300, 1000)
        for case in _alike(Data(1, num_train=number, num_test=2000), f"{number}_images", (CROSS_ENTROPY, DEFAULT))
    ],
}


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    parser = argparse.ArgumentParser(prog="open_questions", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "report"):
        command = commands.add_parser(name)
        command.add_argument("--out", type=Path, required=True, help="folder of the models")
        names = list(QUESTIONS)
        command.add_argument(
            "--questions", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
        )
        command.add_argument("--seeds", type=int, help="models of each case, by default two or three")
        command.add_argument("--smoke", action="store_true", help="few images and steps, for a look")
        if name == "report":
            command.add_argument("--save", type=Path, help="where the table goes, by default --out")
    options = parser.parse_args(arguments)
    given = options.seeds or (1 if options.smoke else None)
    options.seeds = {name: given or number for name, number in NUM_SEEDS.items()}
    folder = options.out / ("smoke" if options.smoke else "") / "open_questions"
    if options.command == "run":
        _run(folder, options)
    else:
        _report(folder, options)
    return 0


def _run(folder, options):
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of many models, each traced once
    cases = [
        (seed, question, case)
        for seed in range(max(options.seeds.values()))
        for question in options.questions
        for case in QUESTIONS[question]
        if seed < options.seeds[question]
    ]
    with progress_bar() as bar:
        task = bar.add_task("open questions", total=len(cases))
        for seed, question, case in cases:
            _run_case(case, folder / question / case.name / f"seed_{seed}", seed, options.smoke)
            bar.advance(task)


def _run_case(case, folder, seed, smoke):
    measured = folder / "measures.json"
    if measured.is_file():
        return
    keras.utils.clear_session()
    data = replace(case.data, **SMOKE) if smoke else case.data
    epochs = max(1, round((_SMOKE_STEPS if smoke else NUM_STEPS) / -(-data.num_train // BATCH_SIZE)))
    model, record = train(case.arm, data, folder, LEARNING_RATE, epochs, seed, batch_size=BATCH_SIZE)
    measures = alignment(model, data, seed, num_explained=4 if smoke else 32)
    history = record["history"]
    measures |= {name: history[f"val_{name}"][-1] for name in ("accuracy", "inflation", "relevance")}
    write_json(measured, plain(measures))
    print(f"{folder.parent.name}, seed {seed}: {measures}", file=sys.stderr, flush=True)


def _report(folder, options):
    rows = []
    for question in options.questions:
        for case in QUESTIONS[question]:
            places = [folder / question / case.name / f"seed_{seed}" for seed in range(options.seeds[question])]
            missing = [place for place in places if not (place / "measures.json").is_file()]
            if missing:
                raise ValueError(
                    f"{missing[0]} is not finished. Call run again, which goes on; or name fewer with --questions and "
                    "--seeds."
                )
            found = [read_json(place / "measures.json") for place in places]
            commit = read_json(places[0] / "run.json")["commit"]
            row = {"question": question, "case": case.name, "num_models": len(found), "commit": commit}
            rows.append({**row, **_summary(found)})
    save = options.save or folder
    write_rows(save / "open_questions.csv", rows)
    write_json(save / "open_questions.json", {"command": "python -m " + __spec__.name, **provenance()})
    print("\n".join(table_lines(rows)))


def table_lines(rows):
    """The table as text, as README.rst has it: means over seeds, and of what may fail the worst of them.

    Parameters
    ----------
    rows : list of dict
        Of ``open_questions.csv``.

    Returns
    -------
    list of str
    """
    lines, question = [], None
    for row in rows:
        if row["question"] != question:
            question = row["question"]
            lines.append(
                f"{question:46s}accuracy  shifted (worst) outside  label: CAM     IG   logits (worst)  inflation"
            )
        shifted = f"{row['shifted_accuracy']:.3f} ({row['shifted_accuracy_min']:.3f})"
        logits = f"{row['logit_change']:.2g} ({row['logit_change_max']:.2g})"
        lines.append(
            f"{row['case']:47s} {row['accuracy']:6.3f} {shifted:>16s} {row['hires_cam_outside_share']:7.4f} "
            f"{row['hires_cam_label_share']:11.4f} {row['integrated_gradients_label_share']:6.3f} {logits:>17s} "
            f"{row['inflation']:9.2f}"
        )
    return lines


def _summary(found):
    """Mean over seeds of each measure, with the smallest and the largest."""
    summary = {}
    for name in found[0]:
        values = np.array([np.nan if measures[name] is None else measures[name] for measures in found], float)
        summary |= {name: values.mean(), f"{name}_min": values.min(), f"{name}_max": values.max()}
    return {name: float(value) for name, value in summary.items()}


if __name__ == "__main__":
    sys.exit(main())
