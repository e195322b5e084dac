"""Table 2: attention on one level, on two or on all, after upsampling or on skip connections, eight rows.

python -m experiments.yang2020.table2 run
python -m experiments.yang2020.table2 report

Rows that Table 1 has too are trained once: both tables share their runs. ``s a volume`` is the time from a volume in
memory to its label map at full resolution.
"""

import sys

from experiments.yang2020.protocol import TABLE2, head_table


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    return head_table("table2", TABLE2, smoke_recipes=["SAM-1", "UAM-12"], arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
