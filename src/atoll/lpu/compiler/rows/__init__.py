"""Products of many rows on the planes of a chip, and what the vector unit makes of them."""
