"""Engine: llama.cpp: binding, stage and ends processes, text, sampling."""
