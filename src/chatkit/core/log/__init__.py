"""What a command does to a log, once for every store. Begin with `decide`.

Pure: no clock, no random, no I/O. A store loads what `keys_of` and `keys_after` name into a `State`, calls `decide`,
and writes the `Changes` that it returns. Why it is so: docs/design/0005-one-decision-core.md.
"""
