# Sourced by quickstart.sh and test.sh: makes .venv beside setup.py and installs the toolkit with the extras in $1
# ("" or "dev") at the tested versions of constraints.txt. Does nothing when that has been done already.
# PYTHON=/path/to/python picks the interpreter, VENV=DIR the environment's folder.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${VENV:-$root/.venv}"

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.10 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: PYTHON: must be Python 3.10 or newer, found none; set PYTHON=/path/to/python3" >&2
    return 2
}

install_toolkit() {
    local extras="$1" python stamp
    # What is installed depends on these files alone (the package itself is installed in place).
    stamp="$(cat "$root/setup.py" "$root/constraints.txt" | cksum | tr -d ' ')-${extras:-base}"
    if [ -e "$venv/installed-$stamp" ]; then
        return
    fi
    python="$(find_python)" || return 2
    echo "Installing into $venv (once; a few minutes)"
    if ! "$python" -m venv "$venv"; then
        echo "error: $python can't make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2
        return 2
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint "$root/constraints.txt" --editable "$root${extras:+[$extras]}" || return 2
    touch "$venv/installed-$stamp"
}
