"""Plan: which layers go where."""
