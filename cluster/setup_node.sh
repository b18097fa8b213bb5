#!/usr/bin/env bash
# What every machine of a cluster needs: a virtual environment with requirements.txt, and the
# storage that all share. Run it as often as you like: it does what is missing.
#
#   KDGAN_STORAGE=/mnt/kdgan bash cluster/setup_node.sh      (KDGAN_VENV: default ~/kdgan-venv)

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
storage=${KDGAN_STORAGE:-/mnt/kdgan}
venv=${KDGAN_VENV:-$HOME/kdgan-venv}
fail() { echo "setup_node.sh: $*" >&2; exit 1; }

wanted=$(sha256sum "$here/requirements.txt" | cut -c 1-64)
if [ "$(cat "$venv/kdgan-requirements" 2> /dev/null)" != "$wanted" ]; then
    python=$(command -v python3.11) || fail "this machine has no python3.11: install it"
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    (cd "$here" && "$venv/bin/pip" install --quiet -r requirements.txt)
    echo "$wanted" > "$venv/kdgan-requirements"
fi
[ -d "$storage" ] && [ -w "$storage" ] ||
    fail "$storage is not there or cannot be written: mount the storage that all machines share"
