"""A whole decoder on many chips: which parts are where, and how one hands over to the next."""
