"""Sim: the ring's machines under a seeded clock, with faults."""
