"""API: the OpenAI-compatible door over HTTP, and the keys to it."""
