"""Table 10: RV, MYO and LV volumes by the paper's networks, eight rows, each at ED, at ES and at both.

python -m experiments.zhang2021.table10 run --data ACDC
python -m experiments.zhang2021.table10 report

The eight rows are 2-D or 3-D, three trunks or one ("multi_output", "multi_label"), and volumes in ml or counts of
voxels as targets. The captions of the paper's own rows were not at hand: this is our reading. Of its figures only
ranges are known, at ED (best rows: RV 41 to 48 ml, MYO 13 to 32, LV 16 to 42), so no figure of the paper stands beside
a row. The crop is the paper's, about the heart: it takes the masks of the test images too.
"""

import sys

from experiments.zhang2021.volume_protocol import FACTORIAL, volume_table


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    return volume_table(
        "table10",
        FACTORIAL,
        smoke_recipes=["vgg2d_multi_output_pixel", "vgg3d_multi_label_volume"],
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
