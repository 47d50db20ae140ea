"""Gateway: the OpenAI-compatible door, API keys, and the driver of the coordinator."""
