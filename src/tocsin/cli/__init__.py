"""The commands, each a thin call into a room."""

from tocsin.cli.application import app, main

__all__ = ["app", "main"]
