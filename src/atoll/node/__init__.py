"""Node: the daemon that hosts a stage and its links."""
