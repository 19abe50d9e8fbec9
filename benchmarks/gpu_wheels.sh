#!/usr/bin/env bash
# Fill a folder with the packages that benchmarks/gpu.sh installs on a machine without a network.
#
#     benchmarks/gpu_wheels.sh FOLDER [PACKAGE ...]
#
# For Python 3.12 on Linux x86-64. PACKAGE: more packages that the machine lacks, e.g. pytest, onnxruntime or
# opencv-python-headless. Wheels over 50 MB are split into parts, so that each can be carried by itself.
set -eu

folder=${1:?name a folder}
shift
mkdir -p "$folder"
cd "$folder"
rm -f -- *.whl *.whl.part-* *.tar.gz SHA256SUMS

platforms=(--python-version 3.12 --implementation cp --only-binary=:all:)
for glibc in 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64)

python3 -m pip download --quiet --no-deps "${platforms[@]}" --dest . \
    tensorrt_rtx_cu13_libs tensorrt_rtx_cu13_bindings av==18.1.0 pytools platformdirs mako markupsafe siphash24 \
    setuptools wheel "$@"
python3 -m pip wheel --quiet --no-deps --wheel-dir . tensorrt_rtx tensorrt_rtx_cu13 # published as source, pure Python
python3 -m pip download --quiet --no-deps --no-binary pycuda --dest . pycuda        # compiled on the other machine
sha256sum -- *.whl *.tar.gz >SHA256SUMS
for wheel in *.whl; do
    if [ "$(stat -c %s "$wheel")" -gt 50000000 ]; then
        split --bytes 50000000 --numeric-suffixes --suffix-length 2 "$wheel" "$wheel.part-"
        rm "$wheel"
    fi
done
ls -lh
