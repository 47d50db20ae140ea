"""Graphs of plain operators on vectors, for one chip."""
