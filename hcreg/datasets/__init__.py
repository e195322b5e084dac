"""Data sets as downloaded, splits that keep a patient together, and synthetic data of known truth.

Importing this package is light: a data set's module loads when its name is first used.
"""

from importlib import import_module

_WHERE = {
    "ACDC": "hcreg.datasets.acdc",
    "HC18": "hcreg.datasets.hc18",
    "VolumeFolder": "hcreg.datasets.volume_folder",
    "splits": None,
    "synthetic": None,
}

__all__ = ["ACDC", "HC18", "VolumeFolder", "splits", "synthetic"]


def __getattr__(name):
    if name not in _WHERE:
        raise AttributeError(f"module 'hcreg.datasets' has no attribute {name!r}; it has {', '.join(__all__)}")
    module = _WHERE[name]
    return getattr(import_module(module), name) if module else import_module(f"hcreg.datasets.{name}")


def __dir__():
    return sorted(__all__)
