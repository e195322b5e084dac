"""The script of ``hcreg tune --script``: what it must define, and errors in it with their file and line."""

import contextlib
import importlib.util
import inspect
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path

_NAME = "hcreg_tune_script"
_EXAMPLE = (
    "def build_model(learning_rate): ... return model (a compiled keras.Model), and def data(): ... return "
    "(train, validation)"
)


@dataclass(frozen=True)
class Target:
    """What a search trains.

    Attributes
    ----------
    build_model : callable
        Learning rate -> compiled keras.Model.
    train, validation : object
        Data for `keras.Model.fit`.
    objective : str
        What trials are judged by where the command does not say.
    direction : {"min", "max"}, optional
        Of this objective, where Keras Tuner does not know it.
    batch_size : int
        Where the command does not say.
    measures : callable, optional
        Model -> dict of further numbers.
    callbacks : tuple of keras.callbacks.Callback
    attributes : dict
        For the record of the study.
    deciding : tuple of str
        Names of the attributes that must be the same for all who join.
    """

    build_model: object
    train: object
    validation: object
    objective: str = "val_loss"
    direction: str | None = None
    batch_size: int = 32
    measures: object = None
    callbacks: tuple = ()
    attributes: dict = field(default_factory=dict)
    deciding: tuple = ()


def check_script(path):
    """Refuse a script that cannot be one, before anything slow is done.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no Python file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no script {path}; give a Python file that defines {_EXAMPLE}")
    if path.suffix != ".py":
        raise ValueError(f"--script takes a Python file that ends in .py. Received: {path}.")


def load_script(path):
    """Run a script, and its ``data()``.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Target

    Raises
    ------
    ValueError
        If it raises, naming file and line; lacks ``build_model`` or ``data``; or they are not what they should be.
    """
    path = Path(path).resolve()
    spec = importlib.util.spec_from_file_location(_NAME, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module  # as for any module: dataclasses and pickles look their own up
    sys.path.insert(0, str(path.parent))  # helpers beside the script, as with `python FILE.py`
    with _errors_located(path, "when it was loaded"):
        spec.loader.exec_module(module)
    build_model, measures = getattr(module, "build_model", None), getattr(module, "measures", None)
    data = getattr(module, "data", None)
    for name, function in (("build_model", build_model), ("data", data)):
        if not callable(function):
            found = "nothing of that name" if function is None else f"a {type(function).__name__}"
            raise ValueError(f"{path} must define a function {name}; it has {found}. Expected: {_EXAMPLE}.")
    if measures is not None and not callable(measures):
        raise ValueError(f"measures of {path} must be a function of the model. Received: {type(measures).__name__}.")
    _check_arguments(path, build_model, ("a learning rate",))
    _check_arguments(path, data, ())
    with _errors_located(path, "in data()"):
        parts = data()
    if not isinstance(parts, (tuple, list)) or len(parts) != 2:
        found = f"{len(parts)} of them" if isinstance(parts, (tuple, list)) else f"a {type(parts).__name__}"
        raise ValueError(
            f"data() of {path} must return two things, (train, validation), each (x, y), a keras.utils.PyDataset or a "
            f"tf.data.Dataset. Received: {found}."
        )
    return Target(build_model, *parts, measures=measures, attributes={"script": str(path)})


def check_model(path, build_model, learning_rate):
    """Build one model, so that an error in its function is told before the search, and in words.

    Parameters
    ----------
    path : path-like
        Of the script.
    build_model : callable
    learning_rate : float

    Raises
    ------
    ValueError
        If it raises, naming file and line, or returns no compiled `keras.Model`.
    """
    import keras

    path = Path(path).resolve()
    with _errors_located(path, f"in build_model({learning_rate:g})"):
        model = build_model(learning_rate)
    if not isinstance(model, keras.Model) or not model.compiled:
        found = "one that is not compiled" if isinstance(model, keras.Model) else f"a {type(model).__name__}"
        raise ValueError(
            f"build_model({learning_rate:g}) of {path} must return a compiled keras.Model. Received: {found}. End it "
            "with model.compile(optimizer=keras.optimizers.Adam(learning_rate), loss=...) and return model."
        )


def _check_arguments(path, function, values):
    try:
        signature = inspect.signature(function)
    except ValueError:  # some callables of C show none
        return
    try:
        signature.bind(*values)
    except TypeError as error:
        name = getattr(function, "__name__", "?")
        expected = ", ".join(values) or "no arguments"
        raise ValueError(f"{name}{signature} of {path} is called with {expected}: {error}.") from error


@contextlib.contextmanager
def _errors_located(path, when):
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, SyntaxError) and error.filename:
            place, line = error.filename, error.lineno
        else:
            frames = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in frames if Path(frame.filename) == path]
            place, line = (own[-1].filename, own[-1].lineno) if own else (str(path), None)
        text = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
        where = f"{place}, line {line}" if line else place
        raise ValueError(f"the script raised {when}: {where}: {text}. Mend it; `python {path}` shows all.") from error
