"""Table 5: the best segmentation network in each of the three trimesters.

The network and its loss are chosen on the inner validation images, never on the test images.

python -m experiments.zhang2021.table5 run --data HC18 --weights VGG16=FILE DenseNet121=FILE
python -m experiments.zhang2021.table5 report
"""

import sys

from experiments.zhang2021.protocol import ELLIPSE, SEGMENTATION, TRIMESTER_COLUMNS, best_network, table
from hcreg.tables import Layout, views


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    return table(
        "table5",
        [*SEGMENTATION, *ELLIPSE],
        smoke_recipes=["unet_dice", "unet_ellipse"],
        layout=Layout(TRIMESTER_COLUMNS, views.by_trimester, best_network),
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
