"""Table 1: two U-Nets with three losses each, on grouped five-fold cross-validation of HC18.

python -m experiments.zhang2021.table1 run --data HC18 --weights VGG16=FILE DenseNet121=FILE
python -m experiments.zhang2021.table1 report
"""

import sys

from experiments.zhang2021.protocol import ELLIPSE, SEGMENTATION, STAND_IN
from hcreg import tables
from hcreg.datasets import HC18
from hcreg.head_circumference import grouped_folds

RECIPES = [*SEGMENTATION, *STAND_IN, *ELLIPSE]


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    return tables.main(
        "zhang2021.table1",
        RECIPES,
        grouped_folds,
        default_folds=[0, 1, 2, 3, 4],
        read_dataset=HC18,
        smoke_recipes=[RECIPES[0].name, ELLIPSE[0].name],
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
