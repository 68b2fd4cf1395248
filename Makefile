# What a fresh machine needs: make, and Python 3.11 or newer with venv. Everything else is fetched, by hash, into .venv.
#
#   make demo    count the words of Python's standard library, show the result, say how to look at the run
#   make test    the whole test suite               make test ARGS="-k restart"
#   make test-real  the tests against a real Slurm, Grid Engine and sshd, which they start; as root, on Debian
#   make simulate  the engine in virtual time, for TIME=60 seconds, or SEEDS=2000 stories; SEED=n shows one of them
#   make nightly   the tests with every kill and fault there is, and an hour of simulation
#   make lint    ruff: rules and format             make format  puts the format right
#   make types   mypy, strict, over all code
#   make bench   all benchmarks, as one table       make bench ARGS=--json
#   make bench-peers  orch beside other engines, which are installed in PEERS=~/.cache/orch-bench-peers; ROUNDS=3
#   make bench-scale  the leader with 10,000, 100,000 and 1,000,000 jobs; SIZES="10000 100000"
#   make wheel   the wheel, in dist/
#   make lock    pins the dependencies anew in requirements.lock
#   make clean   removes what make has made; runs (.orch) stay

PYTHON ?= python3
ARGS ?=
TIME ?= 60
SEED ?=
PEERS ?=
ROUNDS ?= 3
SIZES ?= 10000 100000 1000000
SEEDS ?=
FIRST ?= 0
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LINKS := .links/orch
CODE := $(LINKS) tests benchmarks examples
PIP := $(BIN)/python -m pip --disable-pip-version-check

# The tests start some thousand processes: they share their bytecode, wherever else it is kept or not.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/bytecode

.PHONY: demo test test-real test-real-slurm test-real-gridengine test-real-ssh simulate nightly lint format types bench bench-peers bench-scale wheel lock links clean
.DELETE_ON_ERROR:

demo: $(READY)
	@run="demo-$$(date -u +%Y%m%d-%H%M%S)" && \
	$(BIN)/orch run --run-id "$$run" examples/wordcount.py > $(VENV)/demo.json && \
	$(BIN)/python examples/table.py $(VENV)/demo.json && \
	echo && \
	echo "Every change of that run is an event in its log. To look at it again:" && \
	echo "    $(BIN)/orch replay $$run           # the jobs, as they stood at the end" && \
	echo "    $(BIN)/orch replay $$run --at 100  # … and after the event number 100" && \
	echo "    $(BIN)/orch tail $$run             # the events themselves"

test: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

# Each file has systems of its own, so files can be tested side by side: they wait, mostly.
test-real: $(READY)
	@[ "$$(id -u)" = 0 ] || { \
	    echo "make test-real starts real batch systems, which takes root: nothing was tested" >&2; exit 2; }
	@$(MAKE) --no-print-directory --output-sync=target -j 3 test-real-slurm test-real-gridengine test-real-ssh

# They wait most of the time: so the systems are tried side by side, and the tests of each one after another.
test-real-slurm: $(READY)
	$(BIN)/python -m pytest tests/real --ignore-glob='*test_gridengine*' --ignore-glob='*test_ssh*' $(ARGS)

test-real-gridengine: $(READY)
	$(BIN)/python -m pytest tests/real/test_gridengine*.py $(ARGS)

test-real-ssh: $(READY)
	$(BIN)/python -m pytest tests/real/test_ssh*.py $(ARGS)

simulate: $(READY)
	@PYTHONPATH=tests $(BIN)/python -m simulator $(if $(SEED),--seed $(SEED),$(if $(SEEDS),--seeds $(SEEDS),--time $(TIME))) \
	    --first $(FIRST) --jobs $(JOBS) $(ARGS)

nightly: $(READY)
	ORCH_NIGHTLY=1 $(BIN)/python -m pytest -n $(JOBS) $(ARGS)
	$(MAKE) simulate TIME=3600 FIRST=$$(date +%s)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

types: $(READY) links
	$(BIN)/mypy $(CODE) $(ARGS)

bench: $(READY)
	$(BIN)/python benchmarks $(ARGS)

bench-peers: $(READY)
	PYTHONPATH=benchmarks $(BIN)/python -m peers --rounds $(ROUNDS) $(if $(PEERS),--cache $(PEERS)) $(ARGS)

bench-scale: $(READY)
	$(BIN)/python benchmarks/scale.py $(ARGS) $(SIZES)

wheel: $(READY)
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

lock:
	@uv="$$(command -v uv || echo $(BIN)/uv)"; \
	if [ "$$uv" = $(BIN)/uv ]; then $(MAKE) $(READY) && $(PIP) install -q uv; fi && \
	"$$uv" pip compile -q --universal --generate-hashes --python-version 3.11 --group dev --upgrade \
	    --no-header --no-emit-index-url --no-emit-find-links -o requirements.lock pyproject.toml

# Four folders make one import name. The editable install maps them while running; mypy needs to see it on disk.
links:
	@mkdir -p $(LINKS)
	@for link in $(LINKS)/*; do [ -e "$$link" ] || rm -f "$$link"; done
	@for entry in orchestrator/*.py orchestrator/py.typed orchestrator/*/ bus adapters cli; do \
	    entry="$${entry%/}"; name="$${entry##*/}"; \
	    [ "$$name" = __pycache__ ] || [ -e "$(LINKS)/$$name" ] || ln -s "../../$$entry" "$(LINKS)/$$name"; \
	done

# Rebuilt when the lock or the project's own description changes; otherwise this costs nothing.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "orch needs Python 3.11 or newer, and '$(PYTHON)' is not one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    $(PYTHON) -m venv --clear $(VENV) || { \
	    echo "could not make $(VENV): the venv module of '$(PYTHON)' is missing (Debian: apt install python3-venv)" >&2; \
	    exit 1; }
	@echo "setting up $(VENV) …" >&2
	@$(PIP) install -q --require-hashes -r requirements.lock
	@$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $(READY)

clean:
	rm -rf $(VENV) .links build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
