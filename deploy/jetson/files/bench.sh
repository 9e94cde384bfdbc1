#!/usr/bin/env bash
# Measures the bundle on this device, in the power mode and with the clocks it has now; appends to rows.csv.
# ENGINES are the engines to compare (default: tensorrt if engines were built, and onnxruntime).
# Options go to `vlseg bench`, such as --repeats 200 or --duration 60.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_install

if command -v nvpmodel >/dev/null; then
    note "power mode: $(nvpmodel -q 2>/dev/null | tr '\n' ' ')"
    note "for repeatable times: sudo nvpmodel -m MODE; sudo jetson_clocks"
fi

if [ -z "${ENGINES:-}" ]; then
    ENGINES=onnxruntime
    [ ! -s "$here/bundle/engines/engines.json" ] || ENGINES="tensorrt onnxruntime"
fi
engines=()
for engine in $ENGINES; do
    engines+=(--engine "$engine")
done

exec "$venv/bin/vlseg" bench "$here/bundle" "${engines[@]}" --csv "$here/rows.csv" "$@"
