"""World: the whole system under a seeded clock, with faults, and campaigns of many seeds."""
