#!/usr/bin/env bash
# A training on a TPU pod slice, from a machine that has gcloud:
#
#     export TPU=plates ZONE=us-west4-a TYPE=v5litepod-16   # 16 chips of v5e on 4 hosts
#     ./run_tpu_pod.sh create                               # makes the slice
#     ./run_tpu_pod.sh install                              # builds the wheel and installs it on all
#     ./run_tpu_pod.sh train --config lpdiff --workdir /mnt/runs/lpdiff \
#         --config.data.root=/mnt/plates --config.model.dtype=bfloat16
#     ./run_tpu_pod.sh stop                                 # SIGTERM: all save and leave
#     ./run_tpu_pod.sh delete                               # it costs money until then
#
# TYPE: v5litepod-N is v5e with N chips, v6e-N has N chips of v6e, v5p-N has N/2 chips. VERSION is the
# machines' image, SPOT=1 asks for a cheap slice that may be taken away: `train` again then goes on
# where it was. The work directory and the data must be seen by all hosts, at the same place: NFS, or a
# bucket mounted with gcsfuse.
set -euo pipefail

on_all() { gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"; }

# Of this host, from the server that every Google machine asks about itself.
about() {
    curl --silent --fail --header "Metadata-Flavor: Google" \
        "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

image() {
    case $TYPE in
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    *) echo tpu-ubuntu2204-base ;;
    esac
}

# The command of one host: who it is, and where the first one is.
worker() {
    local number hosts
    number=$(about agent-worker-number)
    # Names, or triples of which the last one is the address.
    hosts=$(about worker-network-endpoints | tr ',' '\n' | sed 's/.*://')
    exec lpdiff train --coordinator="$(head -n 1 <<<"$hosts"):8476" \
        --process-id="$number" --process-count="$(wc -l <<<"$hosts")" "$@"
}

command=${1:-}
shift || true
case $command in
create)
    gcloud compute tpus tpu-vm create "$TPU" --zone="$ZONE" --accelerator-type="$TYPE" \
        --version="${VERSION:-$(image)}" ${SPOT:+--spot}
    ;;
install)
    pip wheel --no-deps --wheel-dir dist .
    gcloud compute tpus tpu-vm scp dist/lpdiff_jax-*.whl "$0" "$TPU:" --zone="$ZONE" --worker=all
    # The images' own Python is 3.10.
    on_all "sudo apt-get update -qq && sudo apt-get install -qq -y python3.11-venv &&
        python3.11 -m venv lpdiff &&
        lpdiff/bin/pip install \"\$(ls -t lpdiff_jax-*.whl | head -n 1)[tpu]\""
    ;;
train)
    on_all "PATH=\$HOME/lpdiff/bin:\$PATH ./$(basename "$0") worker $(printf '%q ' "$@")"
    ;;
worker) worker "$@" ;;
stop) on_all "pkill --signal TERM --full '[l]pdiff train' || true" ;;
delete) gcloud compute tpus tpu-vm delete "$TPU" --zone="$ZONE" --quiet ;;
*)
    sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
    ;;
esac
