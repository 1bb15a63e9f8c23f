#!/usr/bin/env bash
# Installs what the tests need and runs them. Arguments go to pytest: bash scripts/test.sh tests/data -k samplers
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"
install_toolkit "dev"
cd "$root"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
"$venv/bin/python" -m ruff check .
"$venv/bin/python" -m ruff format --check .
"$venv/bin/python" -m mypy vla
exec "$venv/bin/python" -m pytest --numprocesses 2 --dist loadfile "$@"
