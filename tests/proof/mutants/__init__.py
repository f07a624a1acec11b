"""Planted bugs: small, realistic mutations of chatkit, each of which the simulator must catch.

`catalogue` names them, `plant` puts one into the source as it is imported, `python -m tests.proof.mutants` hunts them.
"""
