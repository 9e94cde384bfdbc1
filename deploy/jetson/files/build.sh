#!/usr/bin/env bash
# Builds the TensorRT engines of the bundle on this device, and proves each against ONNX Runtime; fresh ones are kept.
# Options go to `vlseg build`, such as --batch 4 or --plugins off.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_install

"$venv/bin/python" -c 'import tensorrt' 2>/dev/null ||
    stop "TensorRT is not here: it comes with JetPack (sudo apt-get install nvidia-jetpack, then install.sh again);" \
        "without it, the bundle runs on ONNX Runtime: $venv/bin/vlseg segment $here/bundle IMAGE --prompt TEXT --out MASK.png"

memory=$(awk '/^MemTotal/ {m = $2} /^SwapTotal/ {s = $2} END {print int((m + s) / 1048576)}' /proc/meminfo)
[ "$memory" -ge 10 ] ||
    note "memory and swap are $memory GiB together; a build wants 10: see 'Memory' in $here/README.md if it is killed"

exec "$venv/bin/vlseg" build "$here/bundle" "$@"
