#!/usr/bin/env bash
# Makes a machine fit to run trials: shared storage, an environment with the requirements and, on
# AWS, a shell that finds them. Does what is missing and nothing else: run it as often as you like.
#
#   KDGAN_EFS      host name of an EFS file system to mount; without it the storage must be there
#   KDGAN_STORAGE  where the shared storage is (default /mnt/kdgan)
#   KDGAN_VENV     where the environment is (default ~/kdgan-venv)
#   KDGAN_PYTHON   which Python to make it with (default: the first of 3.11 to 3.13 that is there)
set -euo pipefail

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
storage="${KDGAN_STORAGE:-/mnt/kdgan}"
venv="${KDGAN_VENV:-$HOME/kdgan-venv}"
tries=30 # of 10 s: a mount target's name is known to the network a minute or two after it is made

fail() {
  echo "setup_node.sh on $(hostname): $*" >&2
  exit 1
}

# Boots of cloud machines install updates for some minutes and hold the lock meanwhile.
install() {
  sudo apt-get -o DPkg::Lock::Timeout=600 update -q
  sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -qy "$@"
}

mount_storage() {
  mountpoint -q "$storage" && return
  command -v mount.nfs4 >/dev/null || install nfs-common
  sudo mkdir -p "$storage"
  # AWS's recommended options. Hard: a write waits for the server rather than be lost.
  local options=nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport
  local line="$KDGAN_EFS:/ $storage nfs4 $options,_netdev 0 0"
  grep -qxF "$line" /etc/fstab || echo "$line" | sudo tee -a /etc/fstab >/dev/null
  for ((try = 1; ; try++)); do
    sudo mount "$storage" && break
    ((try < tries)) || fail "cannot mount $KDGAN_EFS on $storage"
    sleep 10
  done
  # A new file system is root's.
  [ -w "$storage" ] || sudo chown "$(id -u):$(id -g)" "$storage"
}

find_python() {
  local candidate
  for candidate in ${KDGAN_PYTHON:-python3.11 python3.12 python3.13}; do
    command -v "$candidate" && return
  done
  fail "no Python of 3.11 to 3.13: install one, or name it with KDGAN_PYTHON"
}

make_environment() {
  local python version wanted
  wanted="$(sha256sum "$repository/requirements.txt" | cut -c 1-64)"
  # Written last: an environment that was interrupted is completed.
  [ "$(cat "$venv/kdgan-requirements" 2>/dev/null)" = "$wanted" ] && return
  if [ ! -x "$venv/bin/python" ]; then
    python="$(find_python)"
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then # Debian and Ubuntu leave it out
      version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
      install "python$version-venv"
    fi
    "$python" -m venv "$venv"
  fi
  # torch of the ordinary index brings CUDA along.
  (cd "$repository" && "$venv/bin/python" -m pip install --quiet -r requirements.txt)
  echo "$wanted" >"$venv/kdgan-requirements"
}

# For `ray exec`, `ray attach` and `ray down`, whose commands run in a shell of this user. Before
# the line with which Ubuntu's file ends for shells that nobody types into. Only on machines that
# are the cluster's own, never in somebody's home folder.
prepare_shell() {
  local mark="# KDGAN's environment"
  grep -qxF "$mark" ~/.bashrc 2>/dev/null && return
  {
    printf '%s\nexport PATH="%s/bin:$PATH" RAY_AUTH_MODE=token KDGAN_STORAGE="%s"\n' \
      "$mark" "$venv" "$storage"
    cat ~/.bashrc 2>/dev/null || true
  } >~/.bashrc.kdgan
  mv ~/.bashrc.kdgan ~/.bashrc
}

if [ -n "${KDGAN_EFS:-}" ]; then
  mount_storage
fi
[ -d "$storage" ] || fail "no shared storage at $storage: mount it there, or name another folder \
with KDGAN_STORAGE"
[ -w "$storage" ] || fail "$(id -un) cannot write to the shared storage $storage"
make_environment
if [ -n "${KDGAN_EFS:-}" ]; then
  prepare_shell
fi
