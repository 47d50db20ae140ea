"""What machines that are not here would do: catalogue, cost models, and how far to believe them."""
