"""Atoll: machines of many owners joined into one ring that serves a language model."""

__version__ = "0.1.0"
