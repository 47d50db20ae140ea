"""Net: node identity, authenticated links and the frames on them."""
