"""Backups of a log under load, put back after a kill: each log whole, every client converges, nothing told twice."""
