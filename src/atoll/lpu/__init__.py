"""Groq's LPU to the cycle: the machine as published, a compiler, a checker and a simulator."""
