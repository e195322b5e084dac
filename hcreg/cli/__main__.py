"""``python -m hcreg.cli``: the same as the installed command."""

from hcreg.cli import console

console()
