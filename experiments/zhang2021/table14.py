"""Table 14: both networks with three losses, without the six patients that the paper calls abnormal (Table 9).

python -m experiments.zhang2021.table14 run --data ACDC
python -m experiments.zhang2021.table14 report

Without the six patients the folds are others, so these runs have a folder of their own. Which of the tables 12 to 14
shows what is our reading.
"""

import sys

from experiments.zhang2021.volume_protocol import (
    CLEANED_FOLDER,
    VGG2D,
    VGG3D,
    cleaned_acdc,
    volume_table,
    with_volume_losses,
)


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    return volume_table(
        "table14",
        [*with_volume_losses(VGG3D), *with_volume_losses(VGG2D)],
        smoke_recipes=["vgg2d_multi_label_volume_mse"],
        folder=CLEANED_FOLDER,
        read_dataset=cleaned_acdc,
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
