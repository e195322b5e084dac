"""The report's table: a frozen ResNet50 with a small head, one split of HC18; and its four figures.

python -m experiments.chi2025.table1 run --data HC18 --weights ResNet50=FILE DenseNet121=FILE
python -m experiments.chi2025.table1 report
"""

import sys
from dataclasses import replace
from pathlib import Path

from keras.losses import MeanSquaredError

from hcreg import models, plotting, tables
from hcreg.datasets import HC18
from hcreg.files import read_rows
from hcreg.head_circumference import Recipe, single_split

RESNET50 = Recipe(
    "resnet50",
    models.resnet50_regressor,
    MeanSquaredError(),
    build_arguments={"head": "chi2025hc", "weights": "imagenet"},
    input_shape=(224, 224, 3),
    normalisation="caffe",
    augmentation="none",
    learning_rate=1e-4,
    batch_size=32,
    epochs=10,
    patience=10,
)
# not in the report: the same head on a backbone whose weights are at hand
DENSENET121 = replace(
    RESNET50,
    name="densenet121",
    build=models.backbone_regressor,
    build_arguments={
        "backbone": "DenseNet121",
        "head": "chi2025hc",
        "weights": "imagenet",
        "trainable_backbone": False,
    },
    normalisation="torch",
)
RECIPES = [RESNET50, DENSENET121]


def figures(folder, predictions, output):
    """Draw the report's four figures for each row.

    Parameters
    ----------
    folder : path-like
        Of the runs.
    predictions : dict of str to list of dict
    output : path-like

    Returns
    -------
    list of pathlib.Path
    """
    paths = []
    for name, rows in predictions.items():
        run_folder = Path(folder) / name / "fold_0"
        parts = {
            "training": read_rows(run_folder / "training_predictions.csv"),
            "validation": read_rows(run_folder / "validation_predictions.csv"),
            "test": rows,
        }
        drawn = {
            "head_circumference_distribution": plotting.head_circumference_distribution(
                {part: [row["y_true_mm"] for row in part_rows] for part, part_rows in parts.items()}
            ),
            "history": plotting.history_curves(read_rows(run_folder / "history.csv")),
            "actual_against_predicted": plotting.actual_against_predicted(rows),
            "residuals": plotting.residuals(rows),
        }
        for figure_name, figure in drawn.items():
            paths.append(Path(output) / f"{name}_{figure_name}.png")
            plotting.save(figure, paths[-1])
    return paths


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    return tables.main(
        "chi2025.table1",
        RECIPES,
        lambda dataset, seed: [single_split(dataset, seed=seed)],
        default_folds=[0],
        read_dataset=HC18,
        figures=figures,
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
