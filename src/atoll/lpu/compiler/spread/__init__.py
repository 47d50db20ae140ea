"""Operators over many chips: sums, and products, with what goes over links."""
