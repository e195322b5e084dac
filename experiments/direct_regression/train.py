"""Direct regression of head circumference, with and without masks in training, against the segmentation route.

python -m experiments.direct_regression.train run --data HC18
python -m experiments.direct_regression.train report

One network, `hcreg.models.direct_hc`, trained on three kinds of labels: the mask and the circumference (``direct``, and
``direct_trimmed``, which leaves specks out and trains longer), the circumference alone (``direct_hc_only``, and
``direct_hc_ellipse``, whose mask is drawn towards its own ellipse), the mask alone and measured by the ellipse fitted
to its outline (``direct_mask_only``, the segmentation route). ``cnn_1m_mae`` are the committed runs of
``experiments/zhang2020``, on the same folds. ``report`` writes the table, the same by trimester, the paired tests, the
intervals' calibration and the figures.
"""

import sys
from dataclasses import replace
from pathlib import Path

from experiments.direct_regression.calibration import calibration_lines
from experiments.zhang2020.protocol import LOSSES, SMALL
from hcreg import losses, models, plotting, tables
from hcreg.datasets import HC18
from hcreg.files import write_rows
from hcreg.head_circumference import Recipe, grouped_folds
from hcreg.models.mask_output import SHARPNESS
from hcreg.tables import Layout, report_table, views
from hcreg.tables.comparing import aligned
from hcreg.tables.saving import copy_record, draw_figures

FOLDER = "direct_regression"
FOLDS = [0, 1, 2, 3, 4]
EPOCHS, LONGER_EPOCHS, MOST_EPOCHS = 40, 60, 150

DIRECT = Recipe(
    "direct",
    models.direct_hc,
    {"mask": losses.DiceCrossEntropy(), "hc_fraction": losses.RelativeError()},
    # a quarter: at equal weights unsure heads come out too small, see experiments/zhang2021/README.rst
    loss_weights={"hc_fraction": 0.25},
    input_shape=(128, 192, 1),
    augmentation="strong",
    learning_rate=2e-3,
    schedule="cosine",
    batch_size=8,
    epochs=EPOCHS,
    patience=EPOCHS,
)
TRIMMED = replace(
    DIRECT, name="direct_trimmed", build_arguments={"trim": 1.25}, epochs=LONGER_EPOCHS, patience=LONGER_EPOCHS
)
MAIN_PIECE = replace(
    TRIMMED, name="direct_main_piece", build_arguments={"trim": 1.25, "main_piece": True}, trained_as=TRIMMED.name
)
HC_ONLY = replace(TRIMMED, name="direct_hc_only", loss={"hc_fraction": losses.RelativeError()}, loss_weights={})
HC_ELLIPSE = replace(
    TRIMMED,
    name="direct_hc_ellipse",
    # of the mask only its own ellipse: the label of "mask" is not used
    loss={"mask": losses.OwnEllipse(sharpness=SHARPNESS, trim=1.25), "hc_fraction": losses.RelativeError()},
    loss_weights={"mask": 0.25},
)
HC_MAIN_PIECE = replace(
    HC_ELLIPSE, name="direct_hc_main_piece", build_arguments=MAIN_PIECE.build_arguments, trained_as=HC_ELLIPSE.name
)
# its training images are not fitted yet after 60 epochs
HC_LONGER = replace(HC_ELLIPSE, name="direct_hc_longer", epochs=MOST_EPOCHS, patience=MOST_EPOCHS)
MASK_ONLY = replace(
    DIRECT,
    name="direct_mask_only",
    loss=losses.DiceCrossEntropy(),
    loss_weights={},
    build_arguments={"head": "mask"},
)
PAPERS_NETWORK = SMALL[-1].with_loss("mae", LOSSES["mae"])
PAPERS_RUNS = Path(__file__).parents[1] / "zhang2020" / "results" / "runs"
OWN_ROWS = [DIRECT, TRIMMED, MAIN_PIECE, HC_ONLY, HC_ELLIPSE, HC_MAIN_PIECE, HC_LONGER, MASK_ONLY]
ROWS = [*OWN_ROWS, PAPERS_NETWORK]


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    return tables.main(
        f"{FOLDER}.train",
        ROWS,
        grouped_folds,
        default_folds=FOLDS,
        read_dataset=HC18,
        smoke_recipes=[row.name for row in OWN_ROWS],
        folder=FOLDER,
        layout=Layout(),
        arguments=arguments,
        report=report,
    )


def report(script, recipes, folds, options, layout=None, figures=None):
    """The tables over all trimesters and by trimester, and the intervals' calibration; see `hcreg.tables.report_table`.

    Returns
    -------
    list of dict
        The lines of both tables.
    """
    adopt_papers_runs(recipes, folds, options.out)
    pooled = report_table(script, recipes, folds, options, layout)
    print()
    parts = report_table(f"{script}_by_trimester", recipes, folds, options, Layout(view=views.by_trimester))
    predictions = tables.read_table(recipes, folds, options.out)[0]
    calibrated = calibration_lines(predictions, folds, options.out)
    print()
    print(aligned([list(calibrated[0]), *([_shown(value) for value in line.values()] for line in calibrated)]))
    if options.save is not None:
        write_rows(options.save / "train_calibration.csv", calibrated)
    # drawn here: a report with figures of its own keeps the training part's predictions too
    draw_figures(draw, predictions, options)
    return pooled + parts


def _shown(value):
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def adopt_papers_runs(recipes, folds, out):
    """Copy the committed runs of the papers' network to where the other rows' runs are, unless it was trained there."""
    for fold in folds if PAPERS_NETWORK in recipes else ():
        part = Path(PAPERS_NETWORK.name) / f"fold_{fold}"
        if (PAPERS_RUNS / part).is_dir() and not (out / part).is_dir():
            copy_record(PAPERS_RUNS / part, out / part, with_training=False)


def draw(folder, rows_by_recipe, output):
    """Bland-Altman plot, errors by trimester and residuals of each row of our own; see `hcreg.tables.main`."""
    paths = []
    for name, rows in rows_by_recipe.items():
        if name == PAPERS_NETWORK.name:
            continue
        for kind in ("bland_altman", "error_by_trimester", "residuals"):
            path = output / f"{kind}_{name}.png"
            plotting.save(getattr(plotting, kind)(rows), path)
            paths.append(path)
    return paths


if __name__ == "__main__":
    sys.exit(main())
