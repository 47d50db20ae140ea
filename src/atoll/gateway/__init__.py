"""Gateway: plans and drives rings of the nodes that are in, behind the API."""
