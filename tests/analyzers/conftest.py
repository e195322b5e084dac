"""A way to run analyzers without graphs, and the same weights in every run."""

import pytest


@pytest.fixture(autouse=True)
def _the_same_weights_in_every_run():
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture
def eager(monkeypatch):
    """Run analyzers without compiling them: the same numbers, and far sooner for small networks."""
    from hcreg import backend

    monkeypatch.setattr(backend, "compile_function", lambda function, **_: function)
