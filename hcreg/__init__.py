"""hcreg measures anatomy from medical images by regression, and shows why.

Importing hcreg is quick: its modules load when first used, and none imports a deep-learning framework before then.
"""

from importlib import import_module

from hcreg._version import __version__

_MODULES = (
    "analyzers",
    "augmentation",
    "datasets",
    "geometry",
    "layers",
    "losses",
    "metrics",
    "models",
    "preprocessing",
    "statistics",
    "tuning",
)

__all__ = ["__version__", "measure", *_MODULES]


def __getattr__(name):
    if name in _MODULES:
        return import_module(f"hcreg.{name}")
    if name == "measure":
        return import_module("hcreg.measurement").measure
    raise AttributeError(f"module 'hcreg' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return sorted(__all__)
