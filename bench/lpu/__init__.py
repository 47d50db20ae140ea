"""Groq's LPU: what comes out of simulated chips, held against the model itself."""
