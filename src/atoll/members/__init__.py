"""Members: who may come in, who is in, and what is measured of them."""
