"""Networks that come trained with the package."""

import keras

from hcreg import presets
from hcreg.files import RUN_FILE, read_json
from hcreg.models import weights_file
from hcreg.models.direct_hc import direct_hc

_BUILDERS = {"direct_hc": direct_hc}


def from_preset(name) -> keras.Model:
    """A trained network that comes with the package.

    Parameters
    ----------
    name : {"hc18_direct"}
        "hc18_direct" measures fetal head circumference: `direct_hc` of several members, trained on HC18 (van den Heuvel
        et al. 2018, CC BY 4.0). ``MODEL_CARD.rst`` beside its weights tells of its errors and limits.

    Returns
    -------
    keras.Model
        With its weights, uncompiled.

    Raises
    ------
    ValueError
        For an unknown name.

    Notes
    -----
    Takes images as `hcreg.preprocessing.frames` prepares them. From a file to millimetres with an interval goes
    ``hcreg.measure(image, "hc18_direct", pixel_size_mm)``. Not a medical device.

    Examples
    --------
    >>> model = from_preset("hc18_direct")
    >>> model.input_shape
    (None, 128, 192, 1)
    """
    folder = presets.folder(name)
    arguments = read_json(folder / RUN_FILE)["arguments"]
    model = _BUILDERS[arguments["builder"]](tuple(arguments["input_shape"]), **arguments["build_arguments"])
    weights_file.load(model, folder / presets.WEIGHTS_FILE)
    return model
