"""Table 12: the 3-D network with three losses, on all patients.

python -m experiments.zhang2021.table12 run --data ACDC
python -m experiments.zhang2021.table12 report

The row ``..._multi_label_volume``, of mean absolute error, is that of Table 10: the same run serves both. Which of the
tables 12 to 14 shows what is our reading.
"""

import sys

from experiments.zhang2021.volume_protocol import VGG3D, volume_table, with_volume_losses


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    return volume_table(
        "table12",
        with_volume_losses(VGG3D),
        smoke_recipes=["vgg3d_multi_label_volume_huber"],
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
