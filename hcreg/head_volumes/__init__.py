"""Whole fetal heads in volumes: networks trained, tested at full resolution, and used in one call.

`segment` finds the head in a volume. `HeadRecipe` is a row of a table, `run` trains and tests it.
"""

from hcreg.head_volumes.preparation import HeadPreparation
from hcreg.head_volumes.recipes import HeadRecipe
from hcreg.head_volumes.running import as_run, load_network, open_run, predict, read_volumes, repeated_split, run
from hcreg.head_volumes.segmenting import segment
from hcreg.head_volumes.views import Patches, Slices, Whole
from hcreg.preprocessing.nifti import write_label_map

__all__ = [
    "HeadPreparation",
    "HeadRecipe",
    "Patches",
    "Slices",
    "Whole",
    "as_run",
    "load_network",
    "open_run",
    "predict",
    "read_volumes",
    "repeated_split",
    "run",
    "segment",
    "write_label_map",
]
