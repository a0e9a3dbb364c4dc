# `make demo` runs the default study, `make test` the tests; both set up everything first. `make docs` builds the site.
# Tests run in two processes, file by file; others: make test PYTEST="-n 4", make test PYTEST="-n 0 tests/core".
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST ?= -n 2

.PHONY: demo test lint lint-pages docs install clean
demo: install
	$(BIN)/invp run

test: install
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder $(PYTEST)

lint: install
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/snakefmt --check Snakefile workflow
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory lint-pages; \
	elif [ -n "$(CI)" ]; then echo "npm is missing: the pages' JavaScript and CSS cannot be checked" >&2; exit 1; \
	else echo "npm is not installed: the pages' JavaScript and CSS are not checked"; fi

lint-pages: node_modules/.package-lock.json
	npm run --silent lint

# npm writes this file when it has installed what package-lock.json names.
node_modules/.package-lock.json: package.json package-lock.json
	npm ci --silent
	touch $@

# The site has a small environment of its own: mkdocs reads docs/ and docstrings, and imports nothing of the package.
docs: $(VENV)-docs/.installed
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict
	@echo "site/index.html"

$(VENV)-docs/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-docs
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' \
	  | $(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check -r /dev/stdin
	touch $@

install: $(VENV)/.installed $(BIN)/invp

# `invp` of this clone, whatever the working folder.
$(BIN)/invp: $(VENV)/.installed
	printf '#!%s\nimport sys\n\nsys.path.insert(0, "%s")\nfrom invp.__main__ import main\n\nsys.exit(main())\n' \
	  "$(CURDIR)/$(BIN)/python" "$(CURDIR)" > $@
	chmod +x $@

$(VENV)/.installed: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@echo "installing the $$(grep -c == requirements.lock) packages of requirements.lock into $(VENV): 8 GB on disk, most of it torch and CUDA's libraries"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-docs site node_modules .snakemake .pytest_cache .ruff_cache
