"""Table 2: each U-Net with its best loss, the masks as they are.

The loss is chosen on the inner validation images, never on the test images.

python -m experiments.zhang2021.table2 run --data HC18 --weights VGG16=FILE DenseNet121=FILE
python -m experiments.zhang2021.table2 report
"""

import sys

from experiments.zhang2021.protocol import ELLIPSE, SEGMENTATION, SEGMENTATION_COLUMNS, best_loss, table
from hcreg.tables import Layout, views


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    return table(
        "table2",
        [*SEGMENTATION, *ELLIPSE],
        smoke_recipes=["unet_dice", "unet_kappa", "unet_ellipse"],
        layout=Layout(SEGMENTATION_COLUMNS, views.original, best_loss),
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
