"""Figures 6 to 11: overlays, post-processing, learning curves, good and bad cases, agreement.

python -m experiments.zhang2021.figures --data HC18
python -m experiments.zhang2021.figures --rows unet_dice unet_ellipse --folds 0

Run table1 and table4 first: the figures are drawn from their run folders. Without ``--data`` only charts are drawn,
and without a run's ``checkpoint.weights.h5`` its fitted ellipses, but no masks.

Notes
-----
The paper's captions were not at hand. What stands here for each of its figures:

====== ===============================================================================================
figure content
====== ===============================================================================================
6      the same test images by every network and loss: annotated ellipse, predicted mask, fitted ellipse
7      post-processing: masks before and after where it matters most, and the error of either way
8      learning curves of the segmentation networks, by loss
9      learning curves of the regressors, by loss
10     good and bad cases of the best segmentation network
11     good and bad cases of the best regressor, and the agreement of both with the annotation
====== ===============================================================================================

"Best" is best on the inner validation images, as in tables 5 to 7. Images of figure 6 are chosen by a rule: in each
trimester the one whose error, averaged over the networks, is the median, and the one of the largest error of all.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.zhang2021 import table7
from experiments.zhang2021.protocol import ELLIPSE, FOLDER, REGRESSION, SEGMENTATION, best_network
from hcreg import plotting, runs
from hcreg.datasets import HC18
from hcreg.files import read_rows
from hcreg.tables import read_table
from hcreg.tables.reading import read_validation
from hcreg.training import BEST_WEIGHTS

SMOKE_ROWS = ["unet_dice", "unet_ellipse", "vgg16_mae"]
# in one figure: so many pictures of tissue in so many colours stay below 400 kB
_NUM_CASES, _MOST_OVERLAYS, _NUM_COLOURS = 3, 5, 96
_MOST_CURVES = 6
_PICTURES = "no --data, so no image can be shown"


@dataclass(frozen=True)
class TrainedRow:
    """A row that is trained in all the folds asked for.

    Attributes
    ----------
    name : str
    network : str
        What its other losses share, the builder and its backbone.
    """

    name: str
    network: str


class Material:
    """Images, annotated ellipses and predicted masks, each read when it is first asked for.

    Parameters
    ----------
    folder : path-like
        Of the runs.
    data : path-like
        The HC18 folder.
    rows : list of dict
        Of any row's predictions: which images there are, and in which fold.

    Raises
    ------
    ValueError
        If the data lack an image of the rows, or it has another circumference there.
    """

    def __init__(self, folder, data, rows):
        self.folder = Path(folder)
        self.records = {record.subject_id: record for record in HC18(data)}
        self.folds = {row["subject_id"]: row["fold"] for row in rows}
        for row in rows:
            record = self.records.get(row["subject_id"])
            if record is None or abs(record.hc_mm - row["y_true_mm"]) > 1e-6:
                found = "is not there" if record is None else f"has an HC of {record.hc_mm} mm there"
                raise ValueError(
                    f"The runs in {folder} were not tested on {data}: {row['subject_id']}, {row['y_true_mm']} mm, "
                    f"{found}. Name the folder they were made with in --data."
                )
        self._masks, self._run, self._regressor = {}, None, None

    def image(self, subject_id):
        """Grey image, (height, width) uint8."""
        return self.records[subject_id].image()

    def ellipse(self, subject_id):
        """Annotated ellipse, in pixels of the image."""
        return self.records[subject_id].ellipse()

    def mask(self, row, subject_id):
        """Mask a row's network predicts, of the image's size; None where the run keeps no weights."""
        if (row, subject_id) not in self._masks:
            run = self.folder / row / f"fold_{self.folds[subject_id]}"
            self._masks[row, subject_id] = self._measured_mask(run, self.records[subject_id])
        return self._masks[row, subject_id]

    def _measured_mask(self, run, record):
        from hcreg.measurement import TrainedRegressor

        if run != self._run:  # one network at a time: some are large
            self._run = run
            self._regressor = TrainedRegressor(run) if (run / BEST_WEIGHTS).is_file() else None
            if self._regressor is None:
                _left_out(f"the masks of {run}", f"it has no {BEST_WEIGHTS}; its fitted ellipses are drawn")
        return self._regressor and self._regressor.measure(record.image_path, record.pixel_size_mm).mask

    def has_weights(self, row):
        """Whether the row keeps its weights in every fold."""
        return all((self.folder / row / f"fold_{fold}" / BEST_WEIGHTS).is_file() for fold in set(self.folds.values()))


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    options = _parser().parse_args(arguments)
    if options.out is None:
        options.out = Path("runs") / (FOLDER + ("_smoke" if options.smoke else ""))
    try:
        if options.smoke:
            options.rows = options.rows or SMOKE_ROWS
            failed = table7.main(["run", "--smoke", "--out", str(options.out), "--rows", *options.rows])
            if failed:
                return failed
            options.data = options.data or options.out / "data"
        draw(options.out, options.data, options.save or options.out / "figures", options.rows, options.folds)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        print(f"{FOLDER}.figures: {error}", file=sys.stderr)
        return 1
    return 0


def draw(folder, data, output, names=None, folds=(0,)):
    """Draw every figure there are runs for, and say on standard error what is left out and why.

    Parameters
    ----------
    folder : path-like
        Of the runs.
    data : path-like or None
        The HC18 folder; without it only charts are drawn.
    output : path-like
        Folder of the pictures.
    names : list of str, optional
        Rows; by default all that are finished.
    folds : sequence of int

    Returns
    -------
    list of pathlib.Path

    Raises
    ------
    ValueError
        If there is nothing to draw, a row that is named is not finished, or runs do not belong together.
    """
    folds = list(dict.fromkeys(folds))
    rows = find_rows(folder, folds, names)
    predictions, _ = read_table(rows, folds, folder)
    validation = read_validation(rows, folds, folder)
    segmentation = [row for row in rows if "dice_ellipse" in predictions[row.name][0]]
    regression = [row for row in rows if row not in segmentation]
    material = None if data is None else Material(folder, data, predictions[rows[0].name])
    paths = []

    def keep(name, figure, **options):
        paths.append(plotting.save(figure, Path(output) / f"{name}.png", **options))
        print(f"figure: {paths[-1]}", flush=True)

    if segmentation:
        _draw_overlays(keep, segmentation, predictions, material)
    best = {kind: best_network(found, validation)[0] for kind, found in _kinds(segmentation, regression) if found}
    if segmentation:
        _draw_post_processing(keep, best["segmentation"], predictions, material)
    for number, (kind, found) in zip((8, 9), _kinds(segmentation, regression)):
        if not found:
            _left_out(f"figure {number}, learning curves", f"no {kind} row is trained")
        for network, group in _by_network(found).items():
            _draw_curves(keep, f"figure{number:02d}_learning_curves_{network}", group, folder, folds)
    for number, (kind, found) in zip((10, 11), _kinds(segmentation, regression)):
        if not found:
            _left_out(f"figure {number}, good and bad cases", f"no {kind} row is trained")
        else:
            _draw_cases(keep, f"figure{number:02d}", best[kind], predictions, material)
    if min(len(predictions[name]) for name in best.values()) > 2:
        keep("figure11_agreement", plotting.bland_altman({name: predictions[name] for name in best.values()}))
    else:
        _left_out("figure 11, agreement", "it needs three test images")
    return paths


def find_rows(folder, folds, names=None):
    """The rows that are trained, in the order of the tables.

    Parameters
    ----------
    folder : path-like
    folds : list of int
    names : list of str, optional
        By default all that are finished in each fold; others are named on standard error.

    Returns
    -------
    list of TrainedRow

    Raises
    ------
    ValueError
        If no row is finished, or one of `names` is not.
    """
    order = [recipe.name for recipe in (*SEGMENTATION, *ELLIPSE, *REGRESSION)]
    present = sorted({path.parent.parent.name for path in Path(folder).glob(f"*/fold_*/{runs.RUN_FILE}")})
    present.sort(key=lambda name: order.index(name) if name in order else len(order))
    found = []
    for name in names or present:
        records = _records(Path(folder) / name, folds)
        missing = [fold for fold, record in zip(folds, records) if record is None or record["status"] != "finished"]
        if not missing:
            found.append(TrainedRow(name, _network(records[0]["arguments"])))
        elif names:
            raise ValueError(
                f"{name} is not finished in fold {', '.join(map(str, missing))} of {folder}. Train it with its table's "
                f"script, or leave it out. There are: {', '.join(present) or 'no runs'}."
            )
        else:
            _left_out(name, f"not finished in fold {', '.join(map(str, missing))}")
    if not found:
        raise ValueError(
            f"{folder} has no row that is finished in fold {', '.join(map(str, folds))}. Train some first: "
            f"python -m experiments.{FOLDER}.table1 run --data HC18."
        )
    return found


def typical_and_worst(predictions):
    """Test images for figure 6, and what to write above each.

    Parameters
    ----------
    predictions : dict of str to list of dict
        Of each network, on the same images.

    Returns
    -------
    dict of str to str
        For each trimester the image of median error, and the one of the largest; the error is a mean over networks.
    """
    errors, trimesters = {}, {}
    for rows in predictions.values():
        for row in rows:
            error_mm = abs(row["y_pred_mm"] - row["y_true_mm"])
            errors.setdefault(row["subject_id"], []).append(error_mm if np.isfinite(error_mm) else row["y_true_mm"])
            trimesters[row["subject_id"]] = row["trimester"]
    ranked = sorted(errors, key=lambda subject: (np.mean(errors[subject]), subject))
    chosen = {}
    for trimester in sorted(set(trimesters.values())):
        of_trimester = [subject for subject in ranked if trimesters[subject] == trimester]
        chosen[of_trimester[(len(of_trimester) - 1) // 2]] = f"trimester {trimester}, median error"
    worst = ranked[-1]
    chosen[worst] = f"trimester {trimesters[worst]}, largest error"
    return chosen


def _draw_overlays(keep, rows, predictions, material):
    if material is None:
        _left_out("figure 6, overlays", _PICTURES)
        return
    subjects = typical_and_worst({row.name: predictions[row.name] for row in rows})
    for network, group in _by_network(rows).items():
        tables = {row.name: predictions[row.name] for row in group}
        for part, shown in _parts(tables, _MOST_OVERLAYS):
            figure = plotting.overlays(shown, subjects, material.image, material.ellipse, material.mask)
            keep(f"figure06_overlays_{network}{part}", figure, num_colours=_NUM_COLOURS)


def _draw_post_processing(keep, name, predictions, material):
    rows = predictions[name]
    if any(row["hc_original_mm"] == row["hc_original_mm"] and not row["failure"] for row in rows):
        keep("figure07_post_processing_errors", plotting.post_processing_errors(rows))
    else:
        _left_out("figure 7, errors before and after", f"{name} measured no mask")
    if material is None:
        _left_out("figure 7, masks before and after", _PICTURES)
    elif not material.has_weights(name):
        _left_out("figure 7, masks before and after", f"{name} keeps no {BEST_WEIGHTS}, so its masks are lost")
    else:
        masks = _masks_of(material, name)
        figure = plotting.post_processing(rows, material.image, masks, material.ellipse, _NUM_CASES)
        keep("figure07_post_processing", figure, num_colours=_NUM_COLOURS)


def _draw_curves(keep, name, rows, folder, folds):
    histories = {
        row.name if len(folds) == 1 else f"{row.name}, fold {fold}": read_rows(
            Path(folder) / row.name / f"fold_{fold}" / "history.csv"
        )
        for row in rows
        for fold in folds
    }
    for part, shown in _parts(histories, _MOST_CURVES):
        keep(f"{name}{part}", plotting.learning_curves(shown))


def _parts(items, most):
    """A dict in parts of at most so many entries, each with what to add to its figure's name."""
    names = list(items)
    for start in range(0, len(names), most):
        yield f"_{start // most + 1}" if start else "", {name: items[name] for name in names[start : start + most]}


def _draw_cases(keep, figure_name, name, predictions, material):
    if material is None:
        _left_out(f"{figure_name}, good and bad cases of {name}", _PICTURES)
        return
    for kind, worst in (("good", False), ("bad", True)):
        if not worst and not any(row["y_pred_mm"] == row["y_pred_mm"] for row in predictions[name]):
            _left_out(f"{figure_name}, good cases", f"{name} measured no image")
            continue
        masks = _masks_of(material, name) if "dice_ellipse" in predictions[name][0] else None
        figure = plotting.cases(predictions[name], material.image, material.ellipse, worst, _NUM_CASES, masks)
        keep(f"{figure_name}_{kind}_cases_{name}", figure, num_colours=_NUM_COLOURS)


def _masks_of(material, name):
    return lambda subject_id: material.mask(name, subject_id)


def _kinds(segmentation, regression):
    return ("segmentation", segmentation), ("regression", regression)


def _by_network(rows):
    groups = {}
    for row in rows:
        groups.setdefault(row.network, []).append(row)
    return groups


def _network(arguments):
    backbone = arguments["build_arguments"].get("backbone")
    return arguments["builder"] if backbone is None else f"{backbone.lower()}_{arguments['builder']}"


def _records(folder, folds):
    found = []
    for fold in folds:
        try:
            found.append(runs.read_run(folder / f"fold_{fold}"))
        except FileNotFoundError:
            found.append(None)
    return found


def _left_out(what, why):
    print(f"left out: {what} ({why})", file=sys.stderr)


def _parser():
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{FOLDER}.figures")
    parser.add_argument("--data", type=Path, help="HC18 folder as downloaded; without it only charts are drawn")
    parser.add_argument("--out", type=Path, help=f"folder of the runs, by default runs/{FOLDER}")
    parser.add_argument("--save", type=Path, metavar="DIR", help="folder of the pictures, by default OUT/figures")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="by default all that are finished")
    parser.add_argument("--folds", type=int, nargs="+", metavar="K", default=[0])
    parser.add_argument("--smoke", action="store_true", help="train a few rows on synthetic images first, in seconds")
    return parser


if __name__ == "__main__":
    sys.exit(main())
