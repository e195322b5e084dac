"""Table 11: the label map as input in place of the image, 2-D and 3-D.

python -m experiments.zhang2021.table11 run --data ACDC
python -m experiments.zhang2021.table11 report

What the networks do when the heart is already outlined. One trunk and volumes as targets, as in the rows
``..._multi_label_volume`` of Table 10.
"""

import sys

from experiments.zhang2021.volume_protocol import MASKS_AS_INPUT, volume_table


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    return volume_table(
        "table11",
        MASKS_AS_INPUT,
        smoke_recipes=["vgg2d_masks"],
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
