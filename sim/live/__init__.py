"""Everything in `sim` that opens a socket or reads a clock."""
