"""Serving simulated: requests of a trace, answered by fleets that need not be there."""
