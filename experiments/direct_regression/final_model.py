"""One network of those of all folds, side by side, fit to come with the package, and what it says of itself.

python -m experiments.direct_regression.final_model write --save runs/hc18_direct

Written are the weights in half precision, a run record that `hcreg.measurement.TrainedRegressor` reads, the model card,
and the predictions that calibrate the intervals: those of each image by the one network that has not seen it. A mean of
five should be no farther off than one of them, so the intervals are rather too wide than too narrow.
"""

import argparse
import io
import sys
from pathlib import Path

import h5py
import numpy as np

from experiments.direct_regression.model_card import card
from experiments.direct_regression.train import FOLDER, FOLDS, MAIN_PIECE
from hcreg import evaluation, fold_runs, models, runs, tables, training
from hcreg.files import write_json, write_rows, written_whole
from hcreg.model_state import weights_bytes

NAME = "hc18_direct"
CARD_FILE = "MODEL_CARD.rst"
CALIBRATION_COLUMNS = (
    *("subject_id", "examination_id", "fold", "trimester", "pixel_size_mm", "reference_px_per_mm"),
    *("y_true_px", "y_pred_px", "y_true_mm", "y_pred_mm", "constant_px", "constant_mm"),
    *("interval_low_mm", "interval_high_mm"),
)
_LARGEST_HALF = float(np.finfo(np.float16).max)


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    parser = argparse.ArgumentParser(prog="python -m experiments.direct_regression.final_model")
    write = parser.add_subparsers(dest="command", required=True).add_parser("write", help="from the runs of all folds")
    write.add_argument("--out", type=Path, default=Path("runs") / FOLDER, help="folder of the runs (%(default)s)")
    write.add_argument("--folds", type=int, nargs="+", default=FOLDS, metavar="K", help="default: all")
    write.add_argument("--save", type=Path, required=True, metavar="DIR", help="folder of the preset")
    options = parser.parse_args(arguments)
    try:
        write_preset(options.out, options.folds, options.save)
    except (ValueError, OSError) as error:
        print(f"{FOLDER}.final_model: {error}", file=sys.stderr)
        return 1
    return 0


def write_preset(out, folds, target):
    """Write the preset.

    Parameters
    ----------
    out : path-like
        Folder of the runs of `experiments.direct_regression.train`.
    folds : list of int
    target : path-like
    """
    predictions, records = tables.read_table([MAIN_PIECE], folds, out)
    rows, records = predictions[MAIN_PIECE.name], records[MAIN_PIECE.name]
    arguments = records[0]["arguments"]
    members = []
    for fold in folds:
        member = models.direct_hc(tuple(arguments["input_shape"]), **arguments["build_arguments"])
        training.load_weights(member, Path(out) / MAIN_PIECE.name / f"fold_{fold}" / training.BEST_WEIGHTS)
        members.append(member)
    ensemble = models.direct_hc_ensemble(members)
    target = Path(target)
    with written_whole(target / training.BEST_WEIGHTS) as partial:
        partial.write_bytes(halved(weights_bytes(ensemble)))
    write_rows(
        target / fold_runs.VALIDATION_PREDICTIONS,
        [{name: row[name] for name in CALIBRATION_COLUMNS} for row in rows],
    )
    described = {
        **{name: value for name, value in arguments.items() if name != "fold"},
        "row": NAME,
        "build_arguments": {**arguments["build_arguments"], "num_members": len(members)},
    }
    shared = {name: records[0][name] for name in ("versions", "commit", "device", "target_scale_px")}
    checksums = [record["split_checksum"] for record in records]
    write_json(
        target / runs.RUN_FILE,
        {
            "status": "finished",
            "arguments": described,
            "split_checksum": checksums[0],
            "split_checksums": checksums,
            **shared,
            "num_parameters": ensemble.count_params(),
            "out_of_fold": evaluation.summarise(rows),
        },
    )
    with written_whole(target / CARD_FILE) as partial:
        partial.write_text(card(rows, ensemble.count_params(), len(members), arguments["seed"]))


def halved(content):
    """A file of weights with the kernels in half precision; vectors (biases, batch statistics) stay as they are.

    Parameters
    ----------
    content : bytes-like
        Of a ``.weights.h5`` file.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If a weight is too large for half precision.
    """
    kept = io.BytesIO()
    with h5py.File(io.BytesIO(content), "r") as source, h5py.File(kept, "w") as target:
        target.attrs.update(source.attrs)

        def copy(name, item):
            if isinstance(item, h5py.Group):
                target.require_group(name).attrs.update(item.attrs)
                return
            values = item[()]
            if values.ndim > 1:
                if np.abs(values).max() > _LARGEST_HALF:
                    raise ValueError(f"{name} has weights beyond {_LARGEST_HALF:.0f}, too large for half precision.")
                values = values.astype(np.float16)
            target.create_dataset(name, data=values).attrs.update(item.attrs)

        source.visititems(copy)
    return kept.getvalue()


if __name__ == "__main__":
    sys.exit(main())
