"""What decides a run, as ``run.json`` keeps it: losses and builders in JSON values."""

from pathlib import Path

import keras


def described_loss(loss):
    """A loss as JSON values.

    Parameters
    ----------
    loss : keras.losses.Loss, or dict of them by output

    Returns
    -------
    dict
    """
    if isinstance(loss, dict):
        return {output: described_loss(item) for output, item in loss.items()}
    serialized = keras.saving.serialize_keras_object(loss)
    return {"name": serialized["class_name"], **serialized["config"]}


def described_builder(build, build_arguments):
    """A network's builder and its arguments; of a file of weights the name alone, for where it lay does not matter.

    Parameters
    ----------
    build : callable
    build_arguments : dict

    Returns
    -------
    dict
        "builder" and "build_arguments".
    """
    kept = dict(build_arguments)
    if kept.get("weights") not in (None, "imagenet"):
        kept["weights"] = Path(kept["weights"]).name
    return {"builder": build.__name__, "build_arguments": kept}


def training_arguments(recipe):
    """How a row is trained, whatever it is of: arguments of `hcreg.training.fit` that all recipes have.

    Parameters
    ----------
    recipe : Recipe, StackRecipe, SliceRecipe or HeadRecipe

    Returns
    -------
    dict
    """
    names = ("loss", "learning_rate", "schedule", "epochs", "patience")
    return {name: getattr(recipe, name) for name in names} | {"loss_weights": recipe.loss_weights or None}
