#!/usr/bin/env bash
# All that is to be known of a GPU, within eight minutes; benchmarks/gpu/README.md explains it.
#
#     benchmarks/gpu/run.sh FOLDER               # on a machine with a GPU, from the repository's root
#     benchmarks/gpu/run.sh FOLDER --rehearse    # the same at tiny sizes, on a CPU
#
# PYTHON and TORCH_PYTHON name the interpreters (both: python3). CARRIED is a folder of packages that
# this machine lacks. PARTS names some parts alone. TRAIN holds more words for the training.
set -u
cd "$(dirname "$0")/../.."
folder=${1:?a folder for the results}
rehearse=${2:-}
python=${PYTHON:-python3}
torch=${TORCH_PYTHON:-$python}
parts=${PARTS:-parity speed torch profile training packing}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
export PYTHONPATH=$PWD${CARRIED:+:$CARRIED}${PYTHONPATH:+:$PYTHONPATH}
# What is compiled once is not compiled again, in this run or the next one on this machine.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$folder/compiled}
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=1
# PyTorch and the next part need the memory, too.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
flags="--xla_gpu_autotune_level=2"
training="--config=configs/pretrained.py --config.data.workers=14"
if [ "$rehearse" = --rehearse ]; then
    export JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=1 CUDA_VISIBLE_DEVICES=
    flags=""
    training="--config=configs/quickstart.py --config.data.synthetic.groups=32
        --config.data.synthetic.val_groups=4 --config.stages=('psi',) --config.psi.batch_size=2
        --config.psi.steps=3 --config.validation_batches=1 --config.eval.limit=2"
fi

# part NAME SECONDS COMMAND...: stops it when its time is up; it has written what it knew by then.
part() {
    local name=$1 limit=$2 start=$SECONDS status
    shift 2
    case " $parts " in *" $name "*) ;; *) return ;; esac
    echo "== $name (at most $limit s)"
    timeout --signal=TERM --kill-after=15 "$limit" "$@" >"$folder/$name.log" 2>&1
    status=$?
    # 75: a training that was stopped has saved what it had.
    [ "$name" = training ] && [ $status = 75 ] && status=0
    printf '{"part": "%s", "status": %d, "seconds": %d}\n' "$name" $status $((SECONDS - start)) \
        >>"$folder/results.jsonl"
    [ $status = 0 ] || { failed=1; tail -n 5 "$folder/$name.log"; }
}

failed=0
longer=1
[ "$rehearse" = --rehearse ] && longer=${REHEARSAL_LONGER:-20}  # one core of a CPU compiles slowly
: >"$folder/results.jsonl"
export XLA_FLAGS="$flags --xla_gpu_deterministic_ops=true"
part parity $((100 * longer)) "$python" -m benchmarks.gpu.parity "$folder" 90 $rehearse
export XLA_FLAGS="$flags"
part speed $((150 * longer)) "$python" -m benchmarks.gpu.speed "$folder" $((140 * longer)) $rehearse
if ! "$torch" -c "import torch" 2>/dev/null; then
    parts=${parts/torch/}
    echo "== no torch in $torch: nothing is compared with PyTorch"
    echo '{"part": "torch", "status": "no torch here", "seconds": 0}' >>"$folder/results.jsonl"
fi
part torch $((90 * longer)) "$torch" benchmarks/gpu/torch_speed.py "$folder" $((80 * longer)) $rehearse
part profile $((40 * longer)) "$python" -m benchmarks.gpu.profile_step "$folder" 35 $rehearse
# shellcheck disable=SC2086  # words of a command
part training $((${TRAINING_SECONDS:-70} * longer)) "$python" train.py --workdir="$folder/training" $training ${TRAIN:-}
if [ -d "$folder/training/checkpoints" ]; then
    part packing $((20 * longer)) "$python" -m lpdiff_jax pack "$folder/training" "$folder/model"
fi
"$python" -m benchmarks.gpu.results "$folder" | tee "$folder/table.md"
exit $failed
