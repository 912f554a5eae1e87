#!/usr/bin/env bash
# Benchmarks for a bare CUDA machine: PyTorch 2.11 and Python 3.12, no network, none of our small dependencies.
#
#   benchmarks/gpu.sh wheels      where there is a network: collect the small dependencies in .whl/
#   benchmarks/gpu.sh all         on the GPU machine: every part, one JSON line each
#   benchmarks/gpu.sh PART        throughput, equal-loss, determinism, kill, attention, memory or fit
#
# A part prints its line on standard output and writes it to $OUT/PART.json where OUT is set; all else goes to standard
# error. GPUDAY_BENCH_DEVICE=cpu lets the CPU stand in, with the smallest sizes. PYTHON names the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-python3}"

if [ "${1:-}" = wheels ]; then
	mkdir -p .whl
	platforms=()
	for version in 2_28 2_27 2_24 2_17; do platforms+=(--platform "manylinux_${version}_x86_64"); done
	exec "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
		"${platforms[@]}" --platform manylinux2014_x86_64 --platform manylinux1_x86_64 --dest .whl \
		"tokenizers>=0.22" safetensors xxhash zstandard psutil nvidia-ml-py numpy
fi

export PYTHONPATH="$PWD/src:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH}"
missing="$("$python" benchmarks/gpu_needs.py)"
if [ -n "$missing" ]; then
	site="$(mktemp -d)"
	trap 'rm -rf "$site"' EXIT
	wheels=()
	for name in $missing; do
		found=(.whl/"$name"-*.whl)
		if [ ! -e "${found[0]}" ]; then
			echo "$python lacks $name, and .whl/ holds no wheel of it: run benchmarks/gpu.sh wheels where there is a network, or name another interpreter with PYTHON" >&2
			exit 5
		fi
		wheels+=("${found[0]}")
	done
	"$python" -m pip install --quiet --no-index --no-deps --target "$site" "${wheels[@]}" >&2
	export PYTHONPATH="$PYTHONPATH:$site"
fi
"$python" benchmarks/gpu.py "${@:-all}"
