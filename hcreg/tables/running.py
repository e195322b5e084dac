"""Train the rows of a table, fold by fold."""

import sys
from dataclasses import replace
from pathlib import Path

from hcreg import evaluation

SMOKE_EXAMINATIONS = 14
NOT_GIVEN = "not given"


def run_table(script, recipes, splits_of, folds, options, read_dataset):
    """Train rows and folds that are not finished yet.

    Parameters
    ----------
    script : str
    recipes : list of Recipe
    splits_of, read_dataset : callable
        As in `hcreg.tables.main`.
    folds : list of int
    options : argparse.Namespace
        ``data``, ``out``, ``weights``, ``epochs``, ``seed``, ``smoke``, ``log``.
    """
    from hcreg import head_circumference
    from hcreg.datasets import synthetic
    from hcreg.datasets.batches import read_images

    recipes, dataset, splits = prepared(
        script,
        recipes,
        splits_of,
        folds,
        options,
        read_dataset,
        made_small=_made_small,
        draw=lambda root: synthetic.fetal_head(root, SMOKE_EXAMINATIONS, options.seed),
        needed="the HC18 folder as downloaded (or --smoke, for synthetic images)",
    )
    cache = None
    for recipe in sorted(recipes, key=lambda recipe: recipe.input_shape[:2]):
        if cache is None or cache.input_shape != recipe.input_shape[:2]:
            print(
                f"reading {len(dataset)} images for {recipe.input_shape[1]} x {recipe.input_shape[0]}",
                file=sys.stderr,
            )
            cache = read_images(dataset, recipe.input_shape)
        for fold in folds:
            folder = options.out / recipe.name / f"fold_{fold}"
            rows = head_circumference.run(
                recipe,
                cache,
                splits[fold],
                folder,
                fold=fold,
                seed=options.seed,
                loggers=options.log,
            )
            summary = evaluation.summarise(rows)
            failed = f", {summary['num_failed']} more without a usable mask" if summary["num_failed"] else ""
            print(
                f"{recipe.name}, fold {fold}: MAE {summary['mae_mm']:.2f} ± {summary['mae_sd_mm']:.2f} mm on "
                f"{summary['num_subjects'] - summary['num_failed']} images{failed} "
                f"(constant {summary['constant_mae_mm']:.1f} mm)",
                flush=True,
            )


def prepared(script, recipes, splits_of, folds, options, read_dataset, *, made_small, draw, needed):
    """Recipes as the command line has them, the data set and its folds; all that can be refused before training is.

    Parameters
    ----------
    script, recipes, splits_of, folds, options, read_dataset
        As of `run_table`.
    made_small : callable
        Of a recipe, for ``--smoke``.
    draw : callable
        ``draw(root)`` writes the synthetic data of ``--smoke``.
    needed : str
        What ``--data`` should have been.

    Returns
    -------
    recipes : list of Recipe
    dataset : sequence of records
    splits : list of dict
    """
    recipes = [adapted(made_small(recipe) if options.smoke else recipe, options) for recipe in recipes]
    check_weights(recipes)
    if options.smoke:
        draw(options.out / "data")
    elif options.data is None:
        raise ValueError(f"run needs --data, {needed}.")
    dataset = read_dataset(options.out / "data" if options.smoke else options.data)
    splits = splits_of(dataset, seed=options.seed)
    check_folds(script, folds, splits)
    return recipes, dataset, splits


def check_folds(script, folds, splits):
    """Refuse folds that there are none of.

    Parameters
    ----------
    script : str
    folds : list of int
    splits : list of dict
    """
    unknown = [fold for fold in folds if not 0 <= fold < len(splits)]
    if unknown:
        raise ValueError(f"{script} has the folds 0 to {len(splits) - 1}. Received: {unknown}.")


def adapted(recipe, options):
    """A recipe with the epochs and weights of the command line.

    Parameters
    ----------
    recipe : Recipe
        Of any kind, with ``build_arguments``, ``epochs`` and ``patience``.
    options : argparse.Namespace
        ``epochs``, ``weights``.

    Returns
    -------
    Recipe
    """
    changes = {}
    if options.epochs is not None:
        if options.epochs < 1:
            raise ValueError(f"--epochs takes a whole number of at least 1. Received: {options.epochs}.")
        changes.update(epochs=options.epochs, patience=min(recipe.patience, options.epochs))
    if "weights" in recipe.build_arguments and getattr(recipe, "trained_as", None):  # it begins with none
        changes["build_arguments"] = {**recipe.build_arguments, "weights": None}
    elif "weights" in recipe.build_arguments:
        weights = _weights(options.weights).get(_backbone(recipe))
        if weights is None:
            stated = recipe.build_arguments["weights"]
            weights = NOT_GIVEN if stated == "imagenet" else stated
        changes["build_arguments"] = {**recipe.build_arguments, "weights": None if weights == "none" else weights}
    return replace(recipe, **changes)


def _backbone(recipe):
    """Name of a recipe's backbone in lower case, None for a network that takes no weights."""
    if "weights" not in recipe.build_arguments:
        return None
    named = recipe.build.__name__.removesuffix("_regressor").removesuffix("_unet")  # vgg16_regressor, vgg16_unet
    return recipe.build_arguments.get("backbone", named).lower()


def check_backbones(recipes, pairs):
    """Refuse a weight file for a backbone that no row is built on.

    Parameters
    ----------
    recipes : list of Recipe
        All of the table.
    pairs : list of str or None
        ``BACKBONE=PATH`` each.
    """
    known = {_backbone(recipe) for recipe in recipes} - {None}
    unknown = sorted(_weights(pairs).keys() - known)
    if unknown:
        raise ValueError(
            f"--weights names {', '.join(unknown)}, which no row is built on. "
            f"The backbones of this table: {', '.join(sorted(known)) or 'none'}."
        )


def check_weights(recipes):
    """Refuse rows whose weights are not given, or are no file, before hours of training.

    Parameters
    ----------
    recipes : list of Recipe
    """
    for recipe in recipes:
        weights = recipe.build_arguments.get("weights")
        if weights == NOT_GIVEN:
            raise ValueError(
                f"{recipe.name} starts from ImageNet weights, and nothing is downloaded unless asked. Pass --weights "
                f"{_backbone(recipe)}=PATH for a local file without top layers, {_backbone(recipe)}=imagenet to "
                f"download it, or {_backbone(recipe)}=none for random weights; or leave the row out with --rows."
            )
        if weights not in (None, "imagenet") and not Path(weights).is_file():
            raise FileNotFoundError(f"--weights: there is no file {weights} for {_backbone(recipe)} ({recipe.name}).")


def _weights(pairs):
    found = {}
    for pair in pairs or ():
        backbone, separator, path = pair.partition("=")
        if not separator or not path:
            raise ValueError(
                f"--weights takes BACKBONE=PATH, such as VGG16=weights.h5, or BACKBONE=none. Received: {pair}."
            )
        found[backbone.lower()] = path
    return found


def _made_small(recipe):
    build_arguments = dict(recipe.build_arguments)
    if "weights" in build_arguments:
        build_arguments["weights"] = None
    height, width, channels = recipe.input_shape
    small = (64, 64, 3) if channels == 3 else (height // 2, width // 2, channels) if width > 128 else recipe.input_shape
    return replace(recipe, epochs=1, patience=1, batch_size=8, input_shape=small, build_arguments=build_arguments)
