# The commands of this project; `make` alone lists them.
#
#   PYTHON         the Python that the environment is made from: make serve PYTHON=python3.12
#   BUILD_OPTIONS  for the build: make serve BUILD_OPTIONS="--config-settings=cmake.define.GGML_NATIVE=OFF"
#   JOBS           test processes of `make test` at the same time: by default one a CPU, at most 4
#   VENV, BUILD    where the environment and the compiled objects are kept

PYTHON ?= python3
VENV ?= .venv
BUILD ?= build/editable
BUILD_OPTIONS ?=
JOBS ?= auto
LLM_PORT ?= 8005

BIN := $(VENV)/bin
SMOLLM2 := models/SmolLM2-135M-Instruct.Q4_1.gguf
CSRC := $(shell find sheily_native/csrc -name '*.h' -o -name '*.cpp')
BUILT_FROM := CMakeLists.txt pyproject.toml vendor/fetch.py vendor/llama.cpp.toml \
	$(wildcard cmake/*) $(CSRC)
PIP := $(BIN)/python -m pip --disable-pip-version-check

unexport PYTHONHOME

ifeq ($(origin PYTHON),command line)
ifneq ($(wildcard $(BIN)/python),)
ifneq ($(shell '$(PYTHON)' --version 2>&1),$(shell $(BIN)/python --version 2>&1))
$(error $(VENV) was made with another Python: remove it, or add VENV=.venv-other BUILD=build/other)
endif
endif
endif

.DELETE_ON_ERROR:
.PHONY: help serve develop wheel test test-optimized test-browser torture-browser test-clients \
	test-clients-light sanitize build-arm64 test-arm64 test-container fuzz soak torture nightly check lint types format \
	format-check test-packaging test-userlands clean FORCE

help:
	@echo 'make serve           build, fetch a small model, start the server on port $(LLM_PORT)'
	@echo 'make test            build, run every quick test'
	@echo 'make test-optimized  the unit tests with python -O, which leaves asserts out'
	@echo 'make test-browser    the dashboard in Chromium, Node and a real model behind it'
	@echo 'make torture-browser interrupts answers of the dashboard, fifty times each way (half an hour)'
	@echo 'make test-clients    programs of others, untouched: installs agents and frameworks (1.2 GB)'
	@echo 'make test-clients-light  the smaller half of them'
	@echo 'make sanitize        the tests of the native library under sanitizers (gcc)'
	@echo 'make fuzz            every fuzz target in full (an hour or more); make fuzz CASES=1000'
	@echo 'make fuzz-NAME       one of them: $(FUZZ)'
	@echo 'make soak            a server under mixed traffic: MINUTES=60, MODEL=FILE'
	@echo 'make torture         every fault in full (an hour); MODEL_3B=FILE for a large model'
	@echo 'make build-arm64     a wheel for Linux on ARM64, by a cross compiler (minutes)'
	@echo 'make test-arm64      builds it and runs tests under qemu-user, as root (half an hour)'
	@echo 'make test-container  runs the steps of Containerfile in chroots, as root (minutes)'
	@echo 'make nightly         fuzz, soak, torture and tests of other systems, all in full'
	@echo 'make check           lint, types, format-check'
	@echo 'make format          format Python and C++ files'
	@echo 'make develop         build, install the packages of all targets'
	@echo 'make wheel           one wheel for every x86-64 Linux, in dist/; OLD_GLIBC=1 for older ones too'
	@echo 'make test-packaging  build and install sdist and wheels (minutes)'
	@echo 'make test-userlands  the portable wheel in Debian 11, 12 and 13 and on older CPUs (as root)'
	@echo 'make clean           remove what was built (not .venv, models and vendor/llama.cpp)'

# --- the environment and the one build in it ------------------------------------------------------

$(BIN)/python:
	@sh cmake/check_machine.sh '$(PYTHON)' '$(VENV)'
	'$(PYTHON)' -m venv '$(VENV)'

# One stamp for all that is installed. It holds the set of packages, the options, and a checksum of
# the list of our modules, which an editable package has. Where one of them differs from now, all is
# installed again: seconds, where nothing is to be compiled.
STAMP := $(VENV)/.installed
MODULES := $(shell find sheily_native sheily_server -name '*.py' | sort | cksum)

# The packages that the goals need. What is there already is kept: a larger set has all of a smaller.
FOR_TESTS := test test-optimized test-clients test-clients-light sanitize fuzz fuzz-% soak torture \
	test-arm64 test-container nightly
FOR_BROWSER := test-browser torture-browser
FOR_DEVELOPERS := develop wheel build-arm64 check lint types format format-check test-packaging \
	test-userlands
HAD := $(shell sed -n 1p '$(STAMP)' 2>/dev/null)
HAD_OPTIONS := $(shell sed -n 2p '$(STAMP)' 2>/dev/null)
WANTED := run $(HAD) $(if $(filter $(FOR_TESTS),$(MAKECMDGOALS)),test) \
	$(if $(filter $(FOR_BROWSER),$(MAKECMDGOALS)),browser) \
	$(if $(filter $(FOR_DEVELOPERS),$(MAKECMDGOALS)),dev)
PACKAGES := $(lastword $(filter $(WANTED),run test browser dev))

ifneq ($(strip $(shell cat '$(STAMP)' 2>/dev/null)),$(strip $(PACKAGES) $(BUILD_OPTIONS) $(MODULES)))
$(STAMP): FORCE
endif

# pip 23.1 and newer know -C. Build isolation is off, so that a second build is a matter of seconds,
# and its requirements are installed here. CMake forgets options that are no longer given. The first
# of the two builds shows the compiler's progress; the second finds everything compiled.
INSTALL := $(PIP) install --no-build-isolation -C build-dir='$(BUILD)' $(BUILD_OPTIONS)
$(STAMP): $(BUILT_FROM) | $(BIN)/python
	@echo 'Building in $(BUILD): minutes the first time, then seconds.'
	$(PIP) install --quiet 'pip>=23.1' 'scikit-build-core>=1.0' 'cffi>=2.1' 'cmake>=3.26' 'ninja>=1.11'
	$(if $(subst <$(HAD_OPTIONS)>,,<$(BUILD_OPTIONS)>),rm -f '$(BUILD)/CMakeCache.txt')
	$(INSTALL) --verbose --no-deps --editable .
	$(INSTALL) --quiet --editable '.$(if $(filter-out run,$(PACKAGES)),[$(PACKAGES)])'
	@printf '%s\n' '$(PACKAGES)' '$(BUILD_OPTIONS)' '$(MODULES)' > $@

develop: $(STAMP)

$(SMOLLM2): | $(STAMP)
	$(BIN)/sheily fetch smollm2 --to models

# --- first run ------------------------------------------------------------------------------------

ifdef LLM_MODEL_PATH
SERVED := $(LLM_MODEL_PATH)
serve: $(STAMP)
else
SERVED := $(SMOLLM2)
serve: $(STAMP) $(SMOLLM2)
endif
	@echo
	@echo 'The server starts; ask it from another terminal:'
	@echo
	@echo "  curl http://127.0.0.1:$(LLM_PORT)/v1/chat/completions -H 'Content-Type: application/json' \\"
	@echo "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Where is the Eiffel Tower?\"}], \"max_tokens\": 60}'"
	@echo
	@LLM_PORT='$(LLM_PORT)' LLM_MODEL_PATH='$(SERVED)' exec $(BIN)/sheily serve

# The library with hooks aborts or hangs where tests/robustness/faults tells it to; nobody else has it.
HOOKS = $(BIN)/cmake --build '$(BUILD)' --target _native_hooks
WITH_HOOKS = SHEILY_HOOKS_LIBRARY="$$(echo '$(BUILD)'/hooks/_native*.so)"

# The tests of a file run in one process, as they share servers and models.
test: $(STAMP) $(SMOLLM2)
	$(HOOKS)
	$(WITH_HOOKS) $(BIN)/python -m pytest --timeout=600 \
		--numprocesses=$(JOBS) --maxprocesses=4 --dist=loadfile \
		-m 'not packaging and not browser and not programs'

# Without the asserts of what is tested: none of them guards anything. Those of the tests are kept,
# as pytest writes them, which it doubts.
test-optimized: $(STAMP)
	$(BIN)/python -O -m pytest -W 'ignore:assertions not in test modules:pytest.PytestConfigWarning' \
		tests/unit

# The packages of the page; npm has none to install where the list is as it was.
PAGE := dashboard/node_modules/.package-lock.json
$(PAGE): dashboard/package-lock.json
	@command -v npm >/dev/null || { echo 'no npm: the tests of the dashboard will be skipped' >&2; exit 0; }; \
		npm --prefix dashboard ci && touch $@

test-browser: $(STAMP) $(SMOLLM2) $(PAGE)
	$(BIN)/python -m pytest --timeout=600 -m browser tests/browser

# Fifty interruptions of each kind instead of a few (half an hour).
torture-browser: $(STAMP) $(SMOLLM2) $(PAGE)
	SHEILY_TORTURE=1 $(BIN)/python -m pytest tests/browser/test_interruptions.py

# Agents, frameworks and coding agents, from PyPI and npm, in the versions that
# tests/clients/programs pins. They are installed once, under build/clients.
PROGRAMS := $(BIN)/python -m pytest --timeout=600 tests/clients/programs

test-clients: $(STAMP) $(SMOLLM2)
	$(PROGRAMS)

test-clients-light: $(STAMP) $(SMOLLM2)
	$(PROGRAMS) -m 'not heavy'

# Our own native code is compiled once more, for addresses and undefined behaviour; llama.cpp is not.
# The runtime of the sanitizers has to be there before Python, and the C++ library before the first
# exception; a report ends pytest, which is not to hold it back. It ends by SIGABRT, as a grammar's trial
# that wants too much memory does without sanitizers. The files that are left out run no
# native code, or run it in processes of their own.
sanitize: $(STAMP) $(SMOLLM2)
	$(BIN)/cmake --build '$(BUILD)' --target _native_sanitized
	library=$$(echo '$(BUILD)'/sanitized/_native*.so) && \
	LD_PRELOAD="$$(ldd "$$library" | awk '/lib(asan|stdc\+\+)\.so/ {print $$3}' | xargs)" \
	SHEILY_SANITIZED_LIBRARY="$$library" \
	ASAN_OPTIONS=detect_leaks=0:halt_on_error=1:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	$(BIN)/python -m pytest -p tests.support.sanitized -p no:faulthandler --capture=sys --timeout=600 \
		tests/native --ignore=tests/native/test_make_gguf.py --ignore=tests/native/test_tune.py \
		--ignore=tests/native/test_compilers.py

# --- what takes long ------------------------------------------------------------------------------

# Each target's last line is JSON; tests/robustness/fuzz/targets.py has the full amounts.
FUZZ := bodies http grammars text gguf gguf-native neighbours
FUZZ_OPTIONS = $(if $(CASES),--cases $(CASES)) $(if $(MINUTES),--minutes $(MINUTES)) \
	$(if $(SEED),--seed $(SEED))

# All of them, whether one fails or not.
fuzz: $(STAMP)
	@$(MAKE) --no-print-directory --keep-going $(addprefix fuzz-,$(FUZZ))

fuzz-%: $(STAMP)
	$(BIN)/python -m tests.robustness.fuzz $* $(FUZZ_OPTIONS)

soak: $(STAMP) $(SMOLLM2)
	$(BIN)/python -m tests.robustness.soak --minutes $(or $(MINUTES),60) \
		$(if $(MODEL),--model '$(MODEL)')

# Figures that are over a limit fail it; the table is printed all the same.
torture: $(STAMP) $(SMOLLM2)
	$(HOOKS)
	rm -f build/faults/report.jsonl
	SHEILY_TORTURE=1 $(if $(MODEL_3B),MODEL_3B='$(abspath $(MODEL_3B))') $(WITH_HOOKS) \
		$(BIN)/python -m pytest tests/robustness/faults tests/robustness/kvstore; status=$$?; \
		$(BIN)/python -m tests.robustness.faults.report; exit $$status

# tools/arm64.py and tools/container.py say what each needs. Their caches are under build.
build-arm64: $(STAMP)
	$(BIN)/python -m tools.arm64 build

test-arm64: $(STAMP) $(SMOLLM2)
	$(BIN)/python -m tools.arm64 test

test-container: $(STAMP) $(SMOLLM2)
	$(BIN)/python -m tools.container

# One after the other, whether one fails or not.
nightly: $(STAMP) $(SMOLLM2)
	@$(MAKE) --no-print-directory --keep-going --jobs=1 fuzz soak torture torture-browser test-arm64 \
		test-container test-userlands

# --- for developers -------------------------------------------------------------------------------

check: lint types format-check

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CSRC)

format-check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CSRC)

# One wheel for every x86-64 Linux, in dist/. With OLD_GLIBC=1, also for those from 2020 on: this
# needs root and debootstrap.
wheel: $(STAMP)
	$(BIN)/python -m tools.make_wheel $(if $(OLD_GLIBC),--old-glibc)

test-packaging: $(STAMP)
	$(BIN)/python -m pytest -m 'packaging and not heavy' tests/packaging

# Debian 11, 12 and 13, and older CPUs: minutes, and 2 GB, the first time. For root.
test-userlands: $(STAMP) $(SMOLLM2)
	$(BIN)/python -m tools.make_wheel --old-glibc
	$(BIN)/python -m pytest -m heavy tests/packaging

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f $(STAMP)
	find . -name __pycache__ -not -path './$(VENV)/*' -not -path './vendor/*' -prune -exec rm -rf {} +
