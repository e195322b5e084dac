"""Measure stacks of other patients with the networks of finished runs, those of all folds together."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from hcreg import runs
from hcreg.cardiac_volumes.recipes import AS_IT_IS, StackRecipe
from hcreg.cardiac_volumes.running import load_network, predict, read_stacks
from hcreg.datasets.splits import read_split
from hcreg.files import read_rows
from hcreg.preprocessing.volumes import Frame


class FoldNetworks:
    """The networks that one recipe left in the runs of its folds; their mean measures.

    Parameters
    ----------
    folder : path-like
        A run folder, or one that holds the runs of one recipe: ``runs/.../densenet121_counting``.
    recipes : sequence of StackRecipe or SliceRecipe
        The runs' own is found among them by its name; sizes are those of the runs.

    Attributes
    ----------
    recipe : StackRecipe or SliceRecipe
    folders : list of pathlib.Path
    subjects : frozenset of str
        Whom the networks were trained on, or chosen by.

    Raises
    ------
    FileNotFoundError
        If there is no run in the folder.
    ValueError
        If one is unfinished, of another recipe or other arguments than the first, of a recipe that is not known, or
        was trained on another frame than its recipe has.
    """

    def __init__(self, folder, recipes):
        self.folders = sorted(path.parent for path in Path(folder).glob(f"**/{runs.RUN_FILE}"))
        records = [runs.read_run(path) for path in self.folders or [folder]]  # raises where there is none
        unfinished = [str(path) for path, record in zip(self.folders, records) if record["status"] != "finished"]
        if unfinished:
            raise ValueError(f"Of the runs in {folder} these are not finished: {unfinished}. Run them to their end.")
        arguments = [{**record["arguments"], "fold": None} for record in records]
        unlike = [str(path) for path, own in zip(self.folders, arguments) if own != arguments[0]]
        if unlike:
            raise ValueError(
                f"{folder} holds runs of several rows, or of other arguments: {self.folders[0]} is of "
                f"{arguments[0]['row']}, and these differ from it: {unlike}. Name the folder of one row."
            )
        self.recipe = _recipe_of(arguments[0], recipes, folder)
        self.networks = [load_network(self.recipe, path) for path in self.folders]
        splits = [read_split(path / "split.csv") for path in self.folders]
        self.subjects = frozenset(
            subject for split in splits for part in split if part != "test" for subject in split[part]
        )

    def measure(self, records, cache_folder=None):
        """Measure stacks.

        Parameters
        ----------
        records : sequence of ACDCRecord
        cache_folder : path-like, optional
            See `hcreg.datasets.volume_cache.VolumeCache`.

        Returns
        -------
        list of dict
            As of `predict`, but for the fold; ``RV_constant_ml`` is the mean of the runs' own; ``num_networks``.
        """
        cache = read_stacks(records, self.recipe.preparation, cache_folder)
        rows = predict(self.recipe, self.networks, cache, range(len(cache)), constant=self._constant())
        for row in rows:
            del row["fold"]
            row["num_networks"] = len(self.networks)
        return rows

    def _constant(self):
        found = {}
        for folder in self.folders:
            for phase, row in {row["phase"]: row for row in read_rows(folder / "predictions.csv")}.items():
                found.setdefault(phase, []).append({name: row[name] for name in row if name.endswith("_constant_ml")})
        return {
            phase: {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
            for phase, rows in found.items()
        }


def _recipe_of(arguments, recipes, folder):
    """The recipe of that name, as large as the run was made."""
    known = {recipe.name: recipe for recipe in recipes}
    recipe = known.get(arguments["row"])
    if recipe is None or recipe.build.__name__ != arguments["builder"]:
        raise ValueError(
            f"{folder} holds runs of {arguments['row']} ({arguments['builder']}); the known: {', '.join(known)}. "
            "Measure with the script that trained them."
        )
    changes = {"build_arguments": arguments["build_arguments"]}
    if isinstance(recipe, StackRecipe):
        changes |= {name: arguments[name] for name in ("crop", "source", "target")} | {"size": tuple(arguments["size"])}
    else:
        views = tuple(tuple(view) for view in arguments.get("views", AS_IT_IS))
        changes |= {"frame": Frame(**arguments["frame"]), "views": views}
    made = replace(recipe, **changes)
    frames = [{"frame": found.get("frame")} for found in (arguments, made.own_arguments())]
    unlike = runs.differences(*frames)
    if (
        unlike
    ):  # of stacks it is the same for all networks of one size, and may have been another when they were trained
        raise ValueError(
            f"{folder} holds networks that were trained on another frame than stacks are put on now: "
            f"{'; '.join(unlike)}. Train them anew, or measure with the version that trained them."
        )
    return made
