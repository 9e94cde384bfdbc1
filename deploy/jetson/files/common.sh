# Sourced by the other scripts: where things are, and how to stop with one sentence.
# shellcheck shell=bash
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${VENV:-$here/.venv}

stop() {
    echo "vlseg: $*" >&2
    exit 2
}

note() {
    echo "vlseg: $*" >&2
}

need_install() {
    [ -x "$venv/bin/vlseg" ] || stop "nothing is installed in $venv: run $here/install.sh first"
}
