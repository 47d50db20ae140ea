"""Runs a schedule on data, and shows that it computes what it should, when it should.

Nothing but the schedule moves data. Whatever an instruction takes is what some other one put on
the same stream with the same phase, upstream of it; whatever it gives is there at the phase
that positions and delays of the chip allow, and at no other. There is no clock that ticks: as a
vector keeps its phase all along its way, two instructions meet in a cycle if and only if their
phases are equal, so that comparing phases is the simulation of every cycle. An instruction that
comes a cycle too early or too late finds nothing, or what belongs to another, and that is an
error or a wrong number, never a wait: the chip has none either.

What could still depend on order is memory. A slice at position p reads or writes a word in
cycle `phase - p` of what flows in, `phase + p` of what flows out, and words that are both read
and written are read and written in the order of these cycles (`hazards.py`).

How a routine runs:

- `units.py` has each instruction's form checked.
- `streams.py` finds for each vector that is taken who gave it.
- `planes.py` follows weights from buffers into planes, and what accumulators hold.
- `hazards.py` compares all accesses to the same slices.
- `link.py` makes one order of all that. Bursts run whole; where bursts depend on each other
  both ways, they are cut into vectors. One vector depends on earlier cycles alone, so that an
  order always exists.
- `jobs.py` does the arithmetic, `alu.py` that of the vector unit.
- `simulator.py` runs steps, which leave nothing to each other but memory.

A routine is linked once and runs for every layer and token. What this does not see is whether
units and streams are used by two at once: two instructions that a queue could not both issue
are a matter of the schedule's check.
"""
