"""Table 4: regressors with three losses each, on grouped five-fold cross-validation of HC18.

python -m experiments.zhang2021.table4 run --data HC18 --weights VGG16=FILE ResNet50=FILE DenseNet121=FILE
python -m experiments.zhang2021.table4 report

``--backbones EfficientNetB0 ...`` adds rows on other backbones of keras.applications: where the weights of VGG16 and
ResNet50 are missing, any other can stand in.
"""

import argparse
import sys

from experiments.zhang2021.protocol import LENGTH_LOSSES, REGRESSION, backbone_regression, table, with_losses
from hcreg.tables import Layout


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--backbones", nargs="+", default=[])
    options, arguments = parser.parse_known_args(arguments)
    added = with_losses(map(backbone_regression, options.backbones), LENGTH_LOSSES)
    return table(
        "table4",
        [*REGRESSION, *(recipe for recipe in added if recipe.name not in {row.name for row in REGRESSION})],
        smoke_recipes=[recipe.name for recipe in added] or ["vgg16_mae", "vgg16_mse"],
        layout=Layout(),
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
