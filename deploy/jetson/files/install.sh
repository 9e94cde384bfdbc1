#!/usr/bin/env bash
# Makes a virtual environment beside this script and installs vlseg into it; run it again to repair it.
# PYTHON is the interpreter (default python3), VENV the environment, OFFLINE=1 takes wheels from ./wheels alone.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

python=${PYTHON:-python3}
command -v "$python" >/dev/null || stop "there is no $python: sudo apt-get install python3 python3-venv"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case $version in
    3.10) requirements='requirements-py310.txt' ;;
    3.1[1-9]) requirements='requirements-py312.txt' ;;
    *) stop "Python $version is not supported, expected 3.10 (JetPack 6) or 3.12 (JetPack 7): set PYTHON" ;;
esac

if [ -r /etc/nv_tegra_release ]; then
    note "$(head -n 1 /etc/nv_tegra_release)"
else
    note "this is no Jetson (no /etc/nv_tegra_release): ONNX Runtime on the CPU will work, TensorRT is not looked for"
fi

# TensorRT's Python module belongs to JetPack, so the environment must see the system's packages
"$python" -m venv --system-site-packages "$venv" ||
    stop "no virtual environment could be made in $venv: sudo apt-get install python3-venv"

from=()
[ -z "${OFFLINE:-}" ] || from=(--no-index --find-links "$here/wheels")
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${from[@]}" -r "$here/$requirements" ||
    stop "the packages of $requirements could not be installed; without a network, put their wheels into" \
        "$here/wheels and set OFFLINE=1"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --force-reinstall \
    "$here"/wheels/vlseg-*.whl

"$venv/bin/vlseg" doctor
note "installed; next: $here/build.sh"
