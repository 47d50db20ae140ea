"""Model: GGUF files, the architecture table, shards and manifests."""
