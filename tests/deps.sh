#!/bin/sh
# Installs the Debian packages named on the command line that are not there yet. Asks for sudo only when something is
# missing and we are not root; says what to install where that is not possible.
set -eu
missing=""
for p in "$@"; do
    # "a|b": either will do, a is what gets installed.
    have=no
    for alternative in $(printf '%s' "$p" | tr '|' ' '); do
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$alternative" 2>/dev/null)" = installed ]; then have=yes; fi
    done
    [ $have = yes ] || missing="$missing ${p%%|*}"
done
[ -n "$missing" ] || exit 0

echo "Installing what is missing:$missing"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "error: this machine has no apt-get; install these by hand and run make again:$missing" >&2
    exit 1
fi
sudo=""
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "error: not root and no sudo; as root run: apt-get install$missing" >&2
        exit 1
    fi
    sudo=sudo
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A server that a test needs must not be started as a service by its package; RUNLEVEL=1 asks invoke-rc.d not to.
# shellcheck disable=SC2086  # $missing is a list
if ! { $sudo apt-get update && $sudo env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "error: apt-get could not install:$missing" >&2
    exit 1
fi
