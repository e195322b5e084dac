"""The slides' comparison: four regressors with three losses each, on grouped five-fold cross-validation of HC18.

python -m experiments.zhang2020.table1 run --data HC18 --weights VGG16=FILE ResNet50=FILE DenseNet121=FILE
python -m experiments.zhang2020.table1 report
"""

import sys

from experiments.zhang2020.protocol import BACKBONE, LONG, LOSSES, SMALL, STAND_IN
from hcreg import tables
from hcreg.datasets import HC18
from hcreg.head_circumference import grouped_folds

SHORT = [recipe.with_loss(name, loss) for recipe in (*SMALL, *BACKBONE, STAND_IN) for name, loss in LOSSES.items()]
RECIPES = [*SHORT, *(recipe.with_loss("mae", LOSSES["mae"]) for recipe in LONG)]


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    return tables.main(
        "zhang2020.table1",
        RECIPES,
        grouped_folds,
        default_folds=[0, 1, 2, 3, 4],
        read_dataset=HC18,
        smoke_recipes=[recipe.name for recipe in SHORT if recipe.name.endswith("_mae")],
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
