#!/usr/bin/env bash
# Makes .venv from uv.lock, with uv fetched into build/uv where the machine has none.
# Idempotent: a stamp names the lock that .venv was made from. Prints what it does and how long.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly UV_VERSION=0.13.9
readonly STAMP=.venv/.made-from

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }

timed() { # timed TITLE COMMAND...: quiet unless the command fails
  local title=$1 began=$SECONDS log
  shift
  log=$(mktemp)
  say "  ... $title"
  if ! "$@" >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    rm -f "$log"
    fail "$title failed. Check the network (packages come from PyPI), then run again."
  fi
  rm -f "$log"
  say "  ok  $title: $((SECONDS - began)) s"
}

wanted=$(cat pyproject.toml uv.lock | sha256sum | cut -d' ' -f1)
if [ "$(cat $STAMP 2>/dev/null || true)" = "$wanted" ]; then exit 0; fi

python=$(command -v python3) || fail "no python3: install Python 3.11, 3.12 or 3.13"
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' ||
  fail "$python is $("$python" -V 2>&1): install Python 3.11, 3.12 or 3.13"

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
  uv=build/uv/bin/uv
  if [ ! -x "$uv" ]; then
    rm -rf build/uv
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
      { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; } ||
        fail "$python has no venv module: install python3-venv"
      timed "install python3-venv" sh -c 'apt-get -qq update && apt-get -qq install -y python3-venv'
    fi
    mkdir -p build
    timed "fetch uv $UV_VERSION" sh -c \
      "'$python' -m venv build/uv && build/uv/bin/pip install -q uv==$UV_VERSION"
  fi
fi

rm -f "$STAMP"
timed "make .venv from uv.lock (4 minutes when nothing is cached)" \
  "$uv" sync --frozen --all-extras --all-groups --python "$python"
echo "$wanted" >"$STAMP"
