"""Demo: a whole ring on this machine, as processes like anybody's, asked and checked."""
