# Each target builds what it needs. Variables: PYTHON (3.11), CORES, TORCH (a requirement pip understands), ACCOUNTING
# (of slurm-test: slurmdbd, or none).
PYTHON ?= python3
CORES ?= $(shell nproc)
TORCH ?= torch==2.13.0
ACCOUNTING ?= slurmdbd
BIN := .venv/bin

.PHONY: help demo test lint slurm-test
help:
	@echo "make demo         build the environment, run the demo plate, say where its page is"
	@echo "make test         build the environment with the test tools, run the whole test suite"
	@echo "make lint         check style of code, workflow and spelling"
	@echo "make slurm-test   as root: install Slurm where it is missing, start one on this computer, run its tests, end it"

# Torch goes first, so that nothing else chooses its build.
.venv/installed: pyproject.toml
	@echo "Building the environment in .venv (some minutes, once)."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet "$(TORCH)"
	$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/installed-test: .venv/installed
	@echo "Adding the test tools to .venv."
	$(BIN)/pip install --quiet --editable ".[test]"
	@touch $@

demo: .venv/installed
	@echo "Running the demo plate on $(CORES) cores; a line per finished job."
	@$(BIN)/snakemake --cores $(CORES) --quiet progress rules host reason
	@echo "The page: file://$(CURDIR)/results/report/index.html"

# Two processes of one thread each: those of more would wait for each other.
test: .venv/installed-test
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

slurm-test: .venv/installed-test
	@tests/slurm/run.sh $(ACCOUNTING) $(BIN)/python

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy workflow/plateline
	$(BIN)/snakefmt --check Snakefile workflow/Snakefile workflow/rules
	$(BIN)/snakemake --lint
	$(BIN)/codespell
