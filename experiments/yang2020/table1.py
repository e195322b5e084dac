"""Table 1: what each part of USegNet-DS-HAS-Ctx brings, nine rows.

python -m experiments.yang2020.table1 run
python -m experiments.yang2020.table1 run --data ACDC --out runs/yang2020_acdc
python -m experiments.yang2020.table1 report

Without ``--data`` on synthetic heads, which are drawn first. All seeds (``--folds``) are trained on one split: rows
differ by their network, seeds by chance. No figure of the paper stands beside a row: its volumes are not public.
"""

import sys

from experiments.yang2020.protocol import TABLE1, head_table


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    smoke_recipes = ["p-USegNet", "2D-USegNet", "3D-DeconvNet", "USegNet-DS-HAS", "USegNet-DS-HAS-Ctx"]
    return head_table("table1", TABLE1, smoke_recipes=smoke_recipes, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
