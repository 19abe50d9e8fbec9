#!/usr/bin/env bash
# Measure and test everything that needs an NVIDIA GPU, unattended, in at most 12 minutes.
#
#     benchmarks/gpu.sh WHEELS OUT [CLIP]
#
# WHEELS: folder filled by benchmarks/gpu_wheels.sh. OUT: empty folder for the results. CLIP: a video; one is drawn by
# default. The machine needs Linux, Python 3 with torch, nvcc, a C++ compiler and pytest, and no network.
#
# OUT is complete after every step, so that a run that is cut short leaves what it did:
#     steps.json     name, seconds, limit and exit code of every step (124: ran out of time)
#     log.txt        what all steps printed
#     facts.json     card, driver, versions
#     engines.json   facts of the engines of both models, with the certificate of their labels
#     backends.json, overlap.json, pipeline.json, stream.json: measurements
#
# A step that fails or runs out of time does not stop the next one. The exit code is 0 if all succeeded.
# GPU_DRY_RUN=1 prints the commands and runs none of them.
set -u

export ROOT WHEELS OUT WORK CLIP PYTHONPATH PYTHONUNBUFFERED=1
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TOTAL_S=${GPU_TOTAL_S:-720}

# Run a command, or only print it in a dry run.
run() {
    printf '+ %s\n' "$*"
    [ "${GPU_DRY_RUN:-}" = 1 ] || "$@"
}

# step NAME LIMIT_S: run the function do_NAME within its limit and the time that is left, and record how it ended.
step() {
    local name=$1 limit=$2 left=$((TOTAL_S - SECONDS)) started=$SECONDS code
    [ "$limit" -le "$left" ] || limit=$left
    if [ "$limit" -lt 5 ]; then
        record "$name" 0 "$limit" '"no time left"'
        return
    fi
    printf '\n== %s (at most %d s)\n' "$name" "$limit" | tee -a "$OUT/log.txt"
    timeout -k 5 "$limit" bash -c "set -e; do_$name" >>"$OUT/log.txt" 2>&1 </dev/null
    code=$?
    record "$name" $((SECONDS - started)) "$limit" "$code"
    printf '== %s: %d after %d s\n' "$name" "$code" $((SECONDS - started))
}

record() {
    [ "$4" = 0 ] || FAILED=1
    STEPS+=("{\"step\": \"$1\", \"seconds\": $2, \"limit_s\": $3, \"code\": $4}")
    (IFS=,; printf '[%s]\n' "${STEPS[*]}") >"$OUT/steps.json.new"
    mv "$OUT/steps.json.new" "$OUT/steps.json"
}

# merge OUTPUT FILE...: write the JSON files, if there are any, as one JSON array.
merge() {
    [ -e "$2" ] || [ "${GPU_DRY_RUN:-}" = 1 ] || return 0
    run python3 -c 'import json, sys; from pathlib import Path
Path(sys.argv[1]).write_text(json.dumps([json.loads(Path(name).read_text()) for name in sys.argv[2:]], indent=2))' "$@"
}

do_facts() {
    run nvidia-smi || true
    run nvcc --version || true
    run python3 "$ROOT/benchmarks/_gpu_facts.py" "$OUT/facts.json"
}

do_wheels() {
    local first
    for first in "$WHEELS"/*.part-00; do
        [ -e "$first" ] || continue
        run bash -c "cat '${first%00}'* >'$WORK/wheels/$(basename "${first%.part-00}")'"
    done
    run bash -c "cp '$WHEELS'/*.whl '$WHEELS'/*.tar.gz '$WORK/wheels/' 2>&1 || true"
    run bash -c "cd '$WORK/wheels' && sha256sum --check --quiet '$WHEELS/SHA256SUMS'"
    run bash -c "python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
        --target '$WORK/site' '$WORK'/wheels/*.whl"
}

do_pycuda() {
    # The library of the driver is linked through an empty one of its name, since CUDA for compiling need not have its
    # stubs; some linkers would drop an empty one. Unoptimized: that halves the time, and pycuda only passes calls on.
    local cuda=${CUDA_HOME:-/usr/local/cuda}
    run mkdir -p "$WORK/pycuda" "$WORK/stubs"
    run gcc -shared -o "$WORK/stubs/libcuda.so" -Wl,-soname,libcuda.so.1 -x c /dev/null
    run bash -c "tar xzf '$WORK'/wheels/pycuda-*.tar.gz -C '$WORK/pycuda' --strip-components=1"
    run bash -c "printf '%s\n' \"CUDA_ROOT = '$cuda'\" \"CUDA_ENABLE_CURAND = False\" \
        \"CUDADRV_LIB_DIR = ['$WORK/stubs']\" \"CUDADRV_LIBNAME = ['cuda']\" \
        \"CUDART_LIB_DIR = ['$cuda/lib64', '$cuda/lib']\" \"CUDART_LIBNAME = ['cudart']\" >'$WORK/pycuda/siteconf.py'"
    LDFLAGS=-Wl,--no-as-needed CFLAGS=-O0 CXXFLAGS=-O0 run python3 -m pip install --quiet --no-index --no-deps \
        --no-build-isolation --no-cache-dir --upgrade --target "$WORK/site" "$WORK/pycuda"
    run python3 -c 'import pycuda.driver as driver; driver.init(); print(driver.Device(0).name())'
}

do_tests() {
    RTSEG_REQUIRE_GPU=1 run python3 -m pytest -p no:cacheprovider -rfEs --tb=short --rootdir "$ROOT" "$ROOT/tests/gpu"
}

do_engines() {
    local model code=0
    for model in icnet-camvid deeplabv3-mobilenet-camvid; do
        run python3 -m rtseg build-engine "$model" --target current || code=$?
    done
    merge "$OUT/engines.json" "$WORK"/engines/*.json
    return $code
}

# backends SIZE MODEL...: measure every row on the GPU, and add it to the results.
backends() {
    local size=$1
    shift
    run python3 "$ROOT/benchmarks/backends.py" --backends cuda --models "$@" --sizes "$size" --batches 1 \
        --output "$OUT/backends.json"
}

do_backends_large() { backends 1024x2048 icnet-camvid; }

do_backends_small() { backends 384x640 icnet-camvid deeplabv3-mobilenet-camvid; }

do_overlap() {
    run python3 "$ROOT/benchmarks/gpu_overlap.py" --size 1024x2048 --output "$OUT/overlap.json"
}

do_clip() {
    if [ -n "$CLIP" ]; then
        run cp "$CLIP" "$WORK/clip.mp4"
    else
        run python3 -m rtseg stream demo:10 --view image --output "$WORK/clip.mp4"
    fi
}

do_pipeline() {
    run python3 "$ROOT/benchmarks/pipeline.py" "$WORK/clip.mp4" --rounds 3 --output "$OUT/pipeline.json"
}

do_stream() {
    local frames code=0
    for frames in off 2 3 4; do
        run python3 -m rtseg stream "$WORK/clip.mp4" --propagate "$frames" --output "$WORK/$frames.mp4" \
            --report "$WORK/stream-$frames.json" || code=$?
        merge "$OUT/stream.json" "$WORK"/stream-*.json
    done
    return $code
}

main() {
    [ $# -ge 2 ] || { sed -n '2,19s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2; }
    WHEELS=$(realpath "$1") OUT=$(realpath -m "$2") CLIP=${3:+$(realpath "$3")}
    mkdir -p "$OUT"
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    mkdir -p "$WORK/wheels" "$WORK/site"
    PYTHONPATH=$ROOT:$WORK/site
    PATH=$PATH:/usr/local/cuda/bin
    cd "$WORK" || exit 2 # engines are written to and found in ./engines
    STEPS=() FAILED=0
    step facts 20
    step wheels 30
    step pycuda 130
    step facts 20 # again, with what was installed
    step tests 150
    step engines 80
    step backends_large 80
    step overlap 20
    step clip 20
    step pipeline 45
    step stream 45
    step backends_small 80
    exit "$FAILED"
}

export -f run merge backends do_facts do_wheels do_pycuda do_tests do_engines do_backends_large do_backends_small
export -f do_overlap do_clip do_pipeline do_stream
# Tests read this file for its functions.
[ "${BASH_SOURCE[0]}" != "$0" ] || main "$@"
