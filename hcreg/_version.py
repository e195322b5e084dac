"""The version, alone, so that packaging reads it without importing hcreg."""

__version__ = "0.1.0"
