"""The simulator: real servers, real clients, one store and a bad network, in virtual time, from one seed.

`plan` draws what a run is made of; `world` puts it together (`node`, `device`, `storage`); `workload` and `nemesis`
act on it; `run` leads it to its verdict; `coverage` counts what was tried.
"""
