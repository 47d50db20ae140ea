"""One token of a decoder on the chips that share its layers."""
