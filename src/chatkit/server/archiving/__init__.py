"""Old entries in an archive: `archiver` moves them there, `reader` reads them. Why: docs/design/0022-archive.md."""
