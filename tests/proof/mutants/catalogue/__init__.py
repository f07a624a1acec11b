"""The planted bugs, by name: one module for each area of the source, and one for the proof itself."""

from __future__ import annotations

from . import client, core, moderation, provers, server, storage

MUTANTS = {
    mutant.name: mutant
    for mutant in (
        *storage.MUTANTS,
        *server.MUTANTS,
        *client.MUTANTS,
        *core.MUTANTS,
        *moderation.MUTANTS,
        *provers.MUTANTS,
    )
}
