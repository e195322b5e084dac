"""Searches that lose nothing: Keras Tuner over PostgreSQL, for any number of processes on any machines.

`learning_rate_search` is the whole of it in one call; `PostgresOracle` and `PostgresTuner` are Keras Tuner's parts for
searches of any hyperparameters; `TrialStore` answers questions; `embedded_database` is a server where there is none.
"""

from importlib import import_module

# The store and the server need no Keras: a table of trials is shown at once.
_HOMES = {
    "LearningRateSearch": "search",
    "PostgresOracle": "oracle",
    "PostgresTuner": "tuner",
    "TrialStore": "store",
    "embedded_database": "server",
    "learning_rate_search": "search",
}

__all__ = sorted(_HOMES)


def __getattr__(name):
    if name in _HOMES:
        return getattr(import_module(f"hcreg.tuning.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'hcreg.tuning' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return __all__
