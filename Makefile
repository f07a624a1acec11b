# One word per job; CI runs the same words. Every job does its own set-up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: setup demo check test test-all sim mutants fuzz crash soak soak-steady backups cluster archive matrix bench sync docs clean
.DEFAULT_GOAL := test

setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --editable ".[all,testing]" --group test --group lint --group docs
	touch $(STAMP)

# LOG=FILE replays an IRC log of yours; without it, a real one where there are any beside the clone.
LOG ?= $(firstword $(wildcard ../shared/data/ubuntu-irc/*.txt))

demo: setup
	$(BIN)/chatkit demo $(LOG)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $(VENV)/site

# chatkit.sync is made of the async client; run it after a change of ChatApi or ChatClient.
sync: setup
	$(BIN)/python scripts/make_sync.py

# Some hundred processes start: they keep the compiled modules, and files with many seconds in few tests come early. Files are in memory where there is room.
test: setup
	scripts/browser
	scripts/node
	scripts/strace
	scripts/valgrind
	scripts/pgbouncer
	scripts/promtool
	scripts/proxies
	PYTHONDONTWRITEBYTECODE= scripts/in-memory $(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

test-all:
	scripts/test-all

# 500 seeds with every fault, on all cores, and 100 on a bus that drops everything; SEEDS=5000 or 20000 for a night, SEED=7 for one of them again, FIRST=500
# to go on elsewhere. Ends with what was tried, what each fault changed, and what each invariant was held against.
sim: setup
ifdef SEED
	$(BIN)/python -m tests.proof.simulation --seed $(SEED)
else
	$(BIN)/python -m tests.proof.simulation --seeds $(or $(SEEDS),500) --first $(or $(FIRST),0)
	$(BIN)/python -m tests.proof.simulation --dead-bus --seeds 100 --first $(or $(FIRST),0)
	$(BIN)/python -m tests.proof.simulation --same 20 --first $(or $(FIRST),0)
endif

mutants: setup
	$(BIN)/python -m tests.proof.mutants
	$(BIN)/python -m tests.attacks.holes

# Mutated frames and requests; COUNT=1000000 once, SEED=7 for one of them again.
fuzz: setup
	$(BIN)/python -m tests.proof.fuzz --count $(or $(COUNT),200000) --seed $(or $(SEED),0)

# Power cuts with FULL, the proof that NORMAL is caught, and a SIGKILL at every system call.
crash: setup
	$(BIN)/python -m tests.proof.power_cut
	$(BIN)/python -m tests.proof.power_cut --synchronous NORMAL --expect-loss
	$(BIN)/python -m tests.durability.syscalls --workloads all

# SIGKILL under full load, and under a light one, where a kill meets an idle moment more often.
soak: setup
	$(BIN)/python -m tests.soak
	$(BIN)/python -m tests.soak --load light --rounds 30

# A steady load with clients that come and go, and faults: nothing of the server may grow. HOURS=72 for a release.
soak-steady: setup
	$(BIN)/python -m tests.proof.soak --hours $(or $(HOURS),1) --clients $(or $(CLIENTS),200) --rate $(or $(RATE),100)

# Backups under load, put back after a kill: by chatkit backup, and by Litestream; how soon 10 million messages (4 GB, half an hour) are served again.
backups: setup
	$(BIN)/python -m tests.proof.backups --rounds $(or $(ROUNDS),10)
	$(BIN)/python -m tests.proof.backups --rounds $(or $(ROUNDS),10) --way litestream
	$(BIN)/python -m tests.proof.rto --messages $(or $(MESSAGES),10000000)

# Three nodes on PostgreSQL and NATS, all from pip: apps and faults (SEED draws them), a rolling restart, a group of 500 that are all
# online, 1,000 clients that are cut off at once, and two workers with 100,000 entries in the outbox. Says what was seen.
cluster: setup
	$(BIN)/python -m tests.proof.cluster --seconds $(or $(SECONDS),120) --seed $(or $(SEED),1)
	$(BIN)/python -m tests.proof.cluster --rolling --seconds 60 --clients 120
	$(BIN)/python -m tests.proof.cluster --group 500
	$(BIN)/python -m tests.proof.cluster --reconnect 1000
	$(BIN)/python -m tests.proof.drain --entries 100000 --workers 2

# A server moves old messages to an archive under load: a quarter of an hour for a million.
archive: setup
	$(BIN)/python -m tests.proof.archive --entries $(or $(ENTRIES),1000000)

# The black-box suite and the contract of stores on {memory, SQLite, PostgreSQL} x {1, 3 nodes}: some ten minutes.
matrix: setup
	VENV=$(VENV) scripts/matrix

# What chatkit costs beside socket.io (needs Node.js), python-socketio and a bare prototype, a quarter of an hour: report and pictures in bench/.
# QUICK=1 for a minute. The longest log has 10 million messages: 3 GB, and minutes to fill; STORED=1000000 for less.
bench: setup
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(STORED),--stored $(STORED))

docs: setup
	$(BIN)/mkdocs serve

clean:
	rm -rf $(VENV) .venv-rivals bench dist site build .mypy_cache .ruff_cache .pytest_cache
