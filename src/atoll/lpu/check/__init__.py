"""The checker of schedules, which shares nothing with whatever made them."""
