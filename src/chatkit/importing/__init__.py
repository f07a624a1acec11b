"""Other systems' exports into a log, and a log into JSON lines and back: docs/import.md.

`formats` reads one system's files each, purely: records out. `plan` goes over them once and writes nothing; `importer`
goes over them again and commits. `log_file` is our own JSON lines. Called by `cli`.
"""
