"""Store: models and shards on this machine's disk, and how they get there."""
