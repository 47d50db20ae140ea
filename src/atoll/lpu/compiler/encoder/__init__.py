"""Encoder layers of transformers, one after the other on chips in a row."""
