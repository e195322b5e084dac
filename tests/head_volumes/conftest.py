"""Small heads, and one finished run on them."""

import pytest
from small_heads import heads, small_network
from small_hearts import train_without_graphs

from hcreg import losses
from hcreg.head_volumes import HeadPreparation, HeadRecipe, read_volumes, repeated_split, run

RECIPE = HeadRecipe(
    "whole",
    small_network,
    **losses.deep_supervision(weights=(1.0, 1.0)),
    build_arguments={"outputs": ("mask", "mask_half")},
    preparation=HeadPreparation(scale=0.5),
    learning_rate=0.05,
    epochs=2,
    patience=2,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No graphs of a few steps."""
    train_without_graphs(monkeypatch)


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory):
    """A finished run of a network of whole volumes, seed 1."""
    records = heads()
    split = repeated_split(records, num_seeds=2, sizes=(0.5, 0.25, 0.25))[1]
    cache = read_volumes(records, RECIPE.preparation)
    folder = tmp_path_factory.mktemp("heads") / "whole" / "fold_1"
    with pytest.MonkeyPatch.context() as patch:
        train_without_graphs(patch)
        rows = run(RECIPE, cache, split, folder, fold=1, progress=False)
    return {"recipe": RECIPE, "cache": cache, "split": split, "folder": folder, "rows": rows}
