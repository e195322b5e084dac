"""Table 7: regression against segmentation on the same test images, with paired tests.

Of each network the loss that is best on the inner validation images. A mask is measured by its fitted ellipse; the
networks that measure their own mask (``ellipse``) stand between the two camps.

python -m experiments.zhang2021.table7 run --data HC18 --weights VGG16=FILE ResNet50=FILE DenseNet121=FILE
python -m experiments.zhang2021.table7 report
"""

import sys

from experiments.zhang2020.protocol import LONG
from experiments.zhang2021.protocol import ELLIPSE, REGRESSION, SEGMENTATION, best_loss, table
from hcreg.tables import COLUMNS, Layout, views

# the same authors' own small regressors: their runs in runs/zhang2020/table1 serve if copied to runs/zhang2021
CUSTOM = [recipe.with_loss("mae", recipe.loss) for recipe in LONG]


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    return table(
        "table7",
        [*SEGMENTATION, *ELLIPSE, *REGRESSION, *CUSTOM],
        smoke_recipes=["unet_dice", "unet_ellipse", "vgg16_mae"],
        layout=Layout({**COLUMNS, "dice": ("Dice", 4)}, views.as_predicted, best_loss),
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
