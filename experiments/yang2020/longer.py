"""USegNet-DS-HAS and its Auto-Context with more heads and more steps than the tables have, tested on the tables' heads.

python -m experiments.yang2020.longer run
python -m experiments.yang2020.longer report

200 heads are drawn, of which the first 60 are the tables' own: their validation and test volumes are the same, the
further 140 are added to the training volumes.
"""

import sys
from functools import partial

from experiments.yang2020.protocol import FOLDER, LONGER, NUM_LONGER, SEEDS, draw_heads, head_table, split_of_more


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    return head_table(
        "longer",
        LONGER,
        smoke_recipes=[recipe.name for recipe in LONGER],
        arguments=arguments,
        folder=f"{FOLDER}_longer",
        draw=partial(draw_heads, num_volumes=NUM_LONGER),
        splits_of=split_of_more,
        seeds=SEEDS[:1],
    )


if __name__ == "__main__":
    sys.exit(main())
