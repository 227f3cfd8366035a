#!/usr/bin/env bash
# Everything that needs a GPU, on a machine that has one with drivers for CUDA 12:
#
#     bash benchmarks/gpu.sh [FOLDER]
#
# The environment, and a log of each step, are in FOLDER (build/gpu). The results are written to
# benchmarks/results/, to be committed: gpu-tests.md, peers-gpu.*, precision.md, over-forward-gpu.md,
# feeding-gpu.md, lowerings-gpu.md, cold-start-gpu.md and gpu-bench.json. A step that fails does not
# end the others; the exit status is that of all.
set -uo pipefail
cd "$(dirname "$0")/.."
if ! nvidia-smi --list-gpus; then
  echo "benchmarks/gpu.sh needs a machine with an NVIDIA GPU, on which nvidia-smi lists it" >&2
  exit 2
fi
folder=${1:-build/gpu}
results=benchmarks/results
mkdir -p "$folder"
export UV_PROJECT_ENVIRONMENT="$PWD/$folder/env"
# PyTorch and TensorFlow need memory of the GPU beside JAX in one process.
export XLA_PYTHON_CLIENT_PREALLOCATE=false TF_FORCE_GPU_ALLOW_GROWTH=true
failed=0

step() {
  local name=$1
  shift
  echo "== $name: $*"
  "$@" >"$folder/$name.log" 2>&1 || { failed=1; echo "failed: see $folder/$name.log"; tail -n 5 "$folder/$name.log"; }
}

pip install --quiet uv
step install uv sync --group frameworks --quiet
step cuda uv pip install --quiet "jax[cuda12]" torch torchvision captum grad-cam torchcam \
  tf-keras-vis xplique onnx2torch --python "$UV_PROJECT_ENVIRONMENT"
run() { uv run --no-sync --group frameworks "$@"; }
step device run python -c 'import jax; assert jax.local_devices()[0].platform == "gpu", jax.devices()'
[ "$failed" -eq 0 ] || exit 1

step tests run pytest -q backends/jax backends/onnxjax
{
  echo "# The tests of the JAX backend on a GPU"
  echo
  echo "\`bash benchmarks/gpu.sh\` on $(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1), $(date +%F):"
  echo
  tail -n 1 "$folder/tests.log"
} >"$results/gpu-tests.md"

for precision in float32 tf32 bfloat16; do
  step "peers-$precision" run python -m benchmarks --batch 1 8 32 256 --precision "$precision" --limit 120
done
step precision run python -m benchmarks precision_errors --into "$folder"
step over_forward run python -m benchmarks over_forward --batch 1 32 256
step feeding run python -m benchmarks feeding
step lowerings run python -m benchmarks lowerings --batch 1 32
step cold_start run python -m benchmarks cold_start
step bench run xaimaps bench default -b jax -M saliency -M grad_cam -M integrated_gradients \
  --batch-size 1 --batch-size 32 --batch-size 256 --precision float32 --precision tf32 \
  --precision bfloat16 --json "$results/gpu-bench.json"
exit "$failed"
