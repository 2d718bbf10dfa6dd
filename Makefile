# make demo | test | lint | bench | bench-peers | lock        (a bare Debian 12 with python3 and make is enough)
PY := .venv/bin/python
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: demo test lint bench bench-peers lock clean

# `make demo FOR=30` ends by itself and exits non-zero unless the ledger closes.
demo: .venv/.ready
	@$(PY) -m hardware_sim demo --python $(PY) $(if $(FOR),--seconds $(FOR))

test: .venv/.ready
	@sh tests/debian-packages.sh
	@$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: .venv/.ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PY) tests/house.py

bench: .venv/.ready
	@$(PY) -m bench $(NAME)

# What `make bench NAME=vision` compares with, in an environment of its own: none of it is ours to need. 400 MB.
bench-peers:
	python3 -m venv .venv-bench-vision
	.venv-bench-vision/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r bench/requirements-vision.txt

.venv/.ready: requirements-dev.txt pyproject.toml hardware-sim/pyproject.toml
	@sh .ci/venv.sh
	@touch $@

# Pins names, versions and hashes, never a download address. Needs uv (pip install uv).
lock: .venv/.ready
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command 'make lock' --all-extras pyproject.toml hardware-sim/pyproject.toml -o requirements-dev.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command 'make lock' --extra modbus --extra serial --extra vision --extra page --extra cloud --extra hub pyproject.toml -o requirements.txt

clean:
	rm -rf .venv demo-data
