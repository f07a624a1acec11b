"""The pure heart: state machines and arithmetic over values. No clock, no chance, no I/O, no async."""
