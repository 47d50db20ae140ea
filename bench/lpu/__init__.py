"""Groq's LPU: what comes out of simulated chips, held against the model itself."""

import os

# Before NumPy is imported. Two processes whose products of small matrices each take all cores
# wait for each other: a token took 22 s instead of 2.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
