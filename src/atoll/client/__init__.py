"""Client: talking to a gateway over HTTP, for the commands and the demo."""
