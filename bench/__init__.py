"""Benchmarks: each measures beside a peer or a limit in the same run."""
