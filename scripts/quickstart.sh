#!/usr/bin/env bash
# Installs the toolkit, trains AtlasVLA on the demonstrations that ship with the repository (CPU, no network after the
# install), evaluates it on held-out episodes and writes runs/quickstart/report.html. Interrupt it and run it again: it
# goes on where it stopped. Arguments override the configuration: bash scripts/quickstart.sh --seed 1
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"
install_toolkit ""
cd "$root"
export HF_HUB_OFFLINE=1
"$venv/bin/python" scripts/pretrain.py --config_path experiments/quickstart.yaml --resume auto "$@"
