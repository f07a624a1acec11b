"""Other systems' exports into a log, and a log into JSON lines and back: docs/import.md.

`formats` reads one system's files each, purely: records out. `plan` goes over them once and writes nothing; `importer`
goes over them again and commits. Our own JSON lines are `log_lines`, written by `log_export` and read by `log_import`.
Called by `cli`.
"""
