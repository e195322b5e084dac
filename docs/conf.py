"""Sphinx: ``python -m sphinx -W docs docs/_build`` after ``pip install -e ".[docs]"``."""

import importlib
import inspect
from pathlib import Path

import hcreg

project = "hcreg"
author = "the hcreg authors"
copyright = f"2026, {author}"
release = version = hcreg.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc", "myst_nb", "sphinxcontrib.bibtex"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
default_role = "code"  # names in docstrings stand in single backticks
html_theme = "furo"
html_title = f"hcreg {release}"
html_show_sourcelink = False

numpydoc_show_class_members = False
autodoc_inherit_docstrings = False  # Keras's own are not written in reStructuredText
autodoc_member_order = "bysource"
nb_execution_mode = "off"  # tests run the tutorials; their committed output is shown
bibtex_bibfiles = ["references.bib"]
suppress_warnings = ["bibtex.missing_field"]  # theses and reports of which no more is known

# The public names: of these modules what __all__ lists, or else what they define.
MODULES = (
    *("datasets", "preprocessing", "augmentation", "geometry"),
    *("models", "layers", "losses", "metrics", "statistics"),
    *("head_circumference", "cardiac_volumes", "head_volumes", "measurement", "exported", "evaluation"),
    *("analyzers", "explanation", "plotting", "tuning", "tables", "training", "loggers", "presets"),
)
REFERENCE = Path(__file__).parent / "reference"


def public_names(module):
    """Names that a module shows, in its own order."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not name.startswith("__")]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]


def page_of(name):
    """The text of a module's page."""
    module = importlib.import_module(f"hcreg.{name}")
    title = f"hcreg.{name}"
    lines = [title, "=" * len(title), "", f".. automodule:: {title}", "   :no-members:", ""]
    for public in public_names(module):
        value = getattr(module, public)
        if inspect.ismodule(value):
            lines += [f".. automodule:: {value.__name__}", "   :members:", ""]
        elif inspect.isclass(value):
            lines += [f".. autoclass:: {title}.{public}", "   :members:", ""]
        elif callable(value):
            lines += [f".. autofunction:: {title}.{public}", ""]
    return "\n".join(lines)


def write_reference(app):
    """A page a module, made anew at each build and not committed."""
    REFERENCE.mkdir(exist_ok=True)
    pages = {f"{name}.rst": page_of(name) for name in MODULES}
    toctree = "\n".join(f"   {name}" for name in MODULES)
    pages["index.rst"] = f"Reference\n=========\n\n.. toctree::\n   :maxdepth: 1\n\n{toctree}\n"
    for name, text in pages.items():
        path = REFERENCE / name
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", write_reference)
