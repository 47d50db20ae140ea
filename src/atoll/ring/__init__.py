"""Ring: the sans-IO state machines of coordinator, session and stage."""
