"""Shards that travel from whoever has them to the node that is to compute them."""
