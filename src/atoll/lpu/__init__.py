"""Groq's LPU as published: the chip to the cycle, its links, and how chips are joined."""
