"""Domain: ids, units, errors and wire structs."""
