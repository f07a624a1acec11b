"""Figures for the record. A benchmark is no test: nothing here asserts on time."""
