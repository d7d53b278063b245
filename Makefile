# The commands of this project; `make` alone lists them.
#
#   PYTHON         the Python that the environment is made from: make serve PYTHON=python3.12
#   BUILD_OPTIONS  for the build: make serve BUILD_OPTIONS="-C cmake.define.GGML_NATIVE=OFF"
#   VENV, BUILD    where the environment and the compiled objects are kept

PYTHON ?= python3
VENV ?= .venv
BUILD ?= build/editable
BUILD_OPTIONS ?=
LLM_PORT ?= 8005

BIN := $(VENV)/bin
SMOLLM2 := models/SmolLM2-135M-Instruct.Q4_1.gguf
BUILT_FROM := CMakeLists.txt pyproject.toml vendor/fetch.py vendor/llama.cpp.toml \
	$(wildcard cmake/* sheily_native/csrc/* sheily_native/csrc/*/*)
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
.PHONY: help serve test test-optimized test-browser sanitize fuzz soak torture check lint types format \
	format-check test-packaging clean FORCE

help:
	@echo 'make serve           build, fetch a small model, start the server on port $(LLM_PORT)'
	@echo 'make test            build, run every quick test'
	@echo 'make test-optimized  the unit tests with python -O, which leaves asserts out'
	@echo 'make test-browser    the dashboard in Chromium, Node and a real model behind it'
	@echo 'make sanitize        the tests of the native library under sanitizers (gcc)'
	@echo 'make fuzz            every fuzz target in full (an hour or more); make fuzz CASES=1000'
	@echo 'make fuzz-NAME       one of them: $(FUZZ)'
	@echo 'make soak            a server under mixed traffic: MINUTES=60, MODEL=FILE'
	@echo 'make torture         every fault in full (half an hour); MODEL_3B=FILE for a large model'
	@echo 'make check           lint, types, format-check'
	@echo 'make format          format Python and C++ files'
	@echo 'make test-packaging  build and install sdist and wheels (minutes)'
	@echo 'make clean           remove what was built (not .venv, models and vendor/llama.cpp)'

# --- the environment and the one build in it ------------------------------------------------------

$(BIN)/python:
	@sh cmake/check_machine.sh '$(PYTHON)' '$(VENV)'
	'$(PYTHON)' -m venv '$(VENV)'

# pip 23.1 and newer know -C; build isolation is off below, so that a second build is a matter of
# seconds, and its requirements are installed here.
$(VENV)/.tools: | $(BIN)/python
	@echo 'Installing the build tools in $(VENV).'
	$(PIP) install --quiet --upgrade 'pip>=23.1' 'scikit-build-core>=1.0' 'cffi>=2.1' \
		'cmake>=3.26' 'ninja>=1.11'
	@touch $@

# Changed only when the options are others than last time; CMake then forgets the former ones.
$(VENV)/.build-options: FORCE | $(BIN)/python
	@echo '$(BUILD_OPTIONS)' | cmp -s - $@ || \
		{ echo '$(BUILD_OPTIONS)' > $@; rm -f '$(BUILD)/CMakeCache.txt'; }

# Changed only when there are other modules than last time: an editable package lists them.
$(VENV)/.modules: FORCE | $(BIN)/python
	@find sheily_native sheily_server -name '*.py' | sort | cmp -s - $@ || \
		find sheily_native sheily_server -name '*.py' | sort > $@

# One build for all: a stamp for each set of extras, the larger set standing for the smaller. The
# first line shows the compiler's progress; the second finds everything compiled.
NEEDS := $(VENV)/.tools $(VENV)/.build-options $(VENV)/.modules $(BUILT_FROM)
INSTALL := $(PIP) install --no-build-isolation -C build-dir='$(BUILD)' $(BUILD_OPTIONS)
define install
@echo 'Building in $(BUILD): minutes the first time, then seconds.'
$(INSTALL) --verbose --no-deps --editable .
$(INSTALL) --quiet --editable '$(1)'
endef

$(VENV)/.installed: $(NEEDS)
	$(call install,.)
	@touch $@

$(VENV)/.installed-test: $(NEEDS)
	$(call install,.[test])
	@touch $(VENV)/.installed $@

$(VENV)/.installed-browser: $(NEEDS)
	$(call install,.[browser])
	@touch $(VENV)/.installed $(VENV)/.installed-test $@

$(VENV)/.installed-dev: $(NEEDS)
	$(call install,.[dev])
	@touch $(VENV)/.installed $(VENV)/.installed-test $(VENV)/.installed-browser $@

$(SMOLLM2): | $(VENV)/.installed
	$(BIN)/python -m sheily_server.cli.fetch fetch smollm2

# --- first run ------------------------------------------------------------------------------------

ifdef LLM_MODEL_PATH
SERVED := $(LLM_MODEL_PATH)
serve: $(VENV)/.installed
else
SERVED := $(SMOLLM2)
serve: $(VENV)/.installed $(SMOLLM2)
endif
	@echo
	@echo 'The server starts; ask it from another terminal:'
	@echo
	@echo "  curl http://127.0.0.1:$(LLM_PORT)/v1/chat/completions -H 'Content-Type: application/json' \\"
	@echo "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Where is the Eiffel Tower?\"}],"
	@echo "         \"temperature\": 0, \"max_tokens\": 60}'"
	@echo
	@LLM_PORT='$(LLM_PORT)' LLM_MODEL_PATH='$(SERVED)' exec $(BIN)/python -m sheily_server

# The library with hooks aborts or hangs where tests/robustness/faults tells it to; nobody else has it.
HOOKS = $(BIN)/cmake --build '$(BUILD)' --target _native_hooks
WITH_HOOKS = SHEILY_HOOKS_LIBRARY="$$(echo '$(BUILD)'/hooks/_native*.so)"

test: $(VENV)/.installed-test $(SMOLLM2)
	$(HOOKS)
	$(WITH_HOOKS) $(BIN)/python -m pytest --timeout=600 -m 'not packaging and not browser'

# Without the asserts of what is tested: none of them guards anything. Those of the tests are kept,
# as pytest writes them, which it doubts.
test-optimized: $(VENV)/.installed-test
	$(BIN)/python -O -m pytest -W 'ignore:assertions not in test modules:pytest.PytestConfigWarning' \
		tests/unit

test-browser: $(VENV)/.installed-browser $(SMOLLM2)
	$(BIN)/python -m pytest -m browser tests/browser

# Our own native code is compiled once more, for addresses and undefined behaviour; llama.cpp is not.
# The runtime of the sanitizers has to be there before Python, and the C++ library before the first
# exception; a report ends pytest, which is not to hold it back. The files that are left out run no
# native code, or run it in processes of their own.
sanitize: $(VENV)/.installed-test $(SMOLLM2)
	$(BIN)/cmake --build '$(BUILD)' --target _native_sanitized
	library=$$(echo '$(BUILD)'/sanitized/_native*.so) && \
	LD_PRELOAD="$$(ldd "$$library" | awk '/lib(asan|stdc\+\+)\.so/ {print $$3}' | xargs)" \
	SHEILY_SANITIZED_LIBRARY="$$library" \
	ASAN_OPTIONS=detect_leaks=0:halt_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	$(BIN)/python -m pytest -p tests.support.sanitized -p no:faulthandler --capture=sys --timeout=600 \
		tests/native --ignore=tests/native/test_make_gguf.py --ignore=tests/native/test_tune.py \
		--ignore=tests/native/test_compilers.py

# --- what takes long ------------------------------------------------------------------------------

# Each target's last line is JSON; tests/robustness/fuzz/targets.py has the full amounts.
FUZZ := bodies http grammars text gguf gguf-native neighbours
FUZZ_OPTIONS = $(if $(CASES),--cases $(CASES)) $(if $(MINUTES),--minutes $(MINUTES)) \
	$(if $(SEED),--seed $(SEED))

# All of them, whether one fails or not.
fuzz: $(VENV)/.installed-test
	@$(MAKE) --no-print-directory --keep-going $(addprefix fuzz-,$(FUZZ))

fuzz-%: $(VENV)/.installed-test
	$(BIN)/python -m tests.robustness.fuzz $* $(FUZZ_OPTIONS)

soak: $(VENV)/.installed-test $(SMOLLM2)
	$(BIN)/python -m tests.robustness.soak --minutes $(or $(MINUTES),60) $(if $(MODEL),--model '$(MODEL)')

# Figures that are over a limit fail it; the table is printed all the same.
torture: $(VENV)/.installed-test $(SMOLLM2)
	$(HOOKS)
	rm -f build/faults/report.jsonl
	SHEILY_TORTURE=1 $(if $(MODEL_3B),MODEL_3B='$(abspath $(MODEL_3B))') $(WITH_HOOKS) \
		$(BIN)/python -m pytest tests/robustness/faults; status=$$?; \
		$(BIN)/python -m tests.robustness.faults.report; exit $$status

# --- for developers -------------------------------------------------------------------------------

CSRC = $(shell find sheily_native/csrc -name '*.h' -o -name '*.cpp' -o -name '*.c')

check: lint types format-check

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CSRC)

format-check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CSRC)

test-packaging: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m packaging tests/packaging

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f $(VENV)/.installed $(VENV)/.installed-*
	find . -name __pycache__ -not -path './$(VENV)/*' -not -path './vendor/*' -prune -exec rm -rf {} +
