"""Read what the rows of a table predicted, and refuse what does not belong together."""

from pathlib import Path

from hcreg import runs
from hcreg.files import plain, read_rows


def read_table(recipes, folds, folder):
    """Read the predictions of every row and fold, or say which are missing.

    Parameters
    ----------
    recipes : list of Recipe
    folds : list of int
    folder : path-like

    Returns
    -------
    predictions : dict of str to list of dict
        Of each recipe, pooled over the folds.
    records : dict of str to list of dict
        The ``run.json`` of each fold.

    Raises
    ------
    ValueError
        If runs are missing or unfinished; if they are of several seeds or splits, or were tested on different images;
        if the folds of one row were trained with different arguments.
    """
    predictions, records, missing = {}, {}, []
    for recipe in recipes:
        predictions[recipe.name], records[recipe.name] = [], []
        for fold in folds:
            run_folder = Path(folder) / recipe.name / f"fold_{fold}"
            try:
                record = runs.read_run(run_folder)
            except FileNotFoundError:
                missing.append(f"{recipe.name} fold {fold} (not run)")
                continue
            if record["status"] != "finished":
                missing.append(f"{recipe.name} fold {fold} (not finished)")
                continue
            predictions[recipe.name] += read_rows(run_folder / "predictions.csv")
            records[recipe.name].append(record)
    if missing:
        raise ValueError(
            f"{folder} lacks {len(missing)} run(s): {', '.join(missing)}. Run them, or name the rows and folds to "
            "report with --rows and --folds."
        )
    seeds = {record["arguments"]["seed"] for found in records.values() for record in found}
    if len(seeds) > 1:
        raise ValueError(f"{folder} mixes runs of the seeds {sorted(seeds)}; a table is of one seed.")
    for name, found in records.items():
        unlike = {key for record in found for key in _unlike(record["arguments"], found[0]["arguments"], ("fold",))}
        if unlike:
            raise ValueError(
                f"{Path(folder) / name} mixes runs of different arguments: its folds differ in "
                f"{', '.join(sorted(unlike))}. Run the odd ones again, in another folder."
            )
    for position, fold in enumerate(folds):
        if len({found[position]["split_checksum"] for found in records.values()}) > 1:
            raise ValueError(
                f"The rows in {folder} were trained on different splits in fold {fold}; they cannot stand in one table."
            )
    subjects = {frozenset(row["subject_id"] for row in rows) for rows in predictions.values()}
    if len(subjects) > 1:
        raise ValueError(f"The rows in {folder} were tested on different images; they cannot stand in one table.")
    return predictions, records


def read_validation(recipes, folds, folder):
    """The predictions on which rows may be chosen: those of the inner validation images.

    Parameters
    ----------
    recipes : list of Recipe
    folds : list of int
    folder : path-like

    Returns
    -------
    dict of str to list of dict
        Of each recipe, pooled over the folds. An image may be a validation image of several folds.
    """
    return {
        recipe.name: [
            row
            for fold in folds
            for row in read_rows(Path(folder) / recipe.name / f"fold_{fold}" / "validation_predictions.csv")
        ]
        for recipe in recipes
    }


def departures(recipe, arguments):
    """In words, where a run was made otherwise than the script states now.

    Parameters
    ----------
    recipe : Recipe
        As the script has it.
    arguments : dict
        Of the run's ``run.json``.

    Returns
    -------
    list of str
    """
    stated = {**arguments, "loss_weights": None, **plain(recipe.arguments())}  # left out where there are none
    stated["build_arguments"] = {**stated["build_arguments"]}
    if "weights" in arguments["build_arguments"]:  # --weights names them; the script does not
        stated["build_arguments"]["weights"] = arguments["build_arguments"]["weights"]
    unlike = _unlike(arguments, stated, ("row", "fold", "seed"))
    return [
        f"note: {recipe.name} was made with {key} {arguments.get(key)}; its row says {stated.get(key)}"
        for key in unlike
    ]


def _unlike(arguments, others, besides):
    keys = {**others, **arguments}  # one may lack what the other has
    return [key for key in keys if key not in besides and arguments.get(key) != others.get(key)]
