"""The planted bugs, by name."""

from __future__ import annotations

from .plant import Edit, Mutant

_ALL = (
    Mutant(
        "read-cursor-falls",
        "The newest word of the client is the truth.",
        (Edit("chatkit.storage.memory", "", ""),),
        ("S15",),
    ),
)
MUTANTS = {mutant.name: mutant for mutant in _ALL}
