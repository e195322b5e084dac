"""Train and test networks that measure cardiac volumes, on one split, into one run folder.

Two kinds of recipe, one way to run them: `StackRecipe`, the paper's regressors of whole stacks, and `SliceRecipe`,
which counts the voxels of each slice softly and adds the slices up.
"""

from hcreg.cardiac_volumes.measuring import FoldNetworks
from hcreg.cardiac_volumes.recipes import SliceRecipe, StackRecipe
from hcreg.cardiac_volumes.running import load_network, open_run, patient_folds, predict, read_stacks, run

__all__ = [
    "FoldNetworks",
    "SliceRecipe",
    "StackRecipe",
    "load_network",
    "open_run",
    "patient_folds",
    "predict",
    "read_stacks",
    "run",
]
