"""Table 1: U-Nets with three losses each, their masks as they are, on grouped five-fold cross-validation of HC18.

python -m experiments.zhang2021.table1 run --data HC18 --weights VGG16=FILE DenseNet121=FILE
python -m experiments.zhang2021.table1 report
"""

import sys

from experiments.zhang2021.protocol import ELLIPSE, SEGMENTATION, SEGMENTATION_COLUMNS, table
from hcreg.tables import Layout, views


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    return table(
        "table1",
        [*SEGMENTATION, *ELLIPSE],
        smoke_recipes=["unet_dice", "unet_ellipse"],
        layout=Layout(SEGMENTATION_COLUMNS, views.original),
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
