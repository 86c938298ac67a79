#!/usr/bin/env bash
# CIFAR-10 with shaped and with white noise. The SAGD paper (arXiv 2510.09660) finds no gain there: its best alpha is about 0. Models as
# small as these draw textures rather than objects, so distances are taken in spectra and pixels; with WEIGHTS of Inception, also FID.
# Usage: [VARIABLE=VALUE ...] examples/first-experiments/cifar10_shaping.sh [OUTPUT]       (a quarter of an hour of two CPU cores)
# It needs `sagd` on the PATH and CIFAR-10 in $SAGD_DATA, ./data or CIFAR10=cifar10:root=DIR or CIFAR10=FILE.npy. Run again, it goes on
# where it was stopped. It ends with OUTPUT/report.html.
set -euo pipefail
here=$(dirname "$0")
out=${1:-first-experiments-output/cifar10-shaping}
CIFAR10=${CIFAR10:-cifar10}
REFERENCE=${REFERENCE:-$CIFAR10}   # images that samples are compared with
FEATURES=${FEATURES:-spectrum}
WEIGHTS=${WEIGHTS:-}               # of Inception, with FEATURES=inception
SEEDS=${SEEDS:-0,1,2}
IMAGES=${IMAGES:-9600}             # budget of each training, counted with repetition
N=${N:-500}                        # samples of each model
JOBS=${JOBS:-2}

mkdir -p "$out"
sagd sweep --config "$here/cifar10.yaml" --dataset "$CIFAR10" --set training.images="$IMAGES" \
    --grid filter.options.alpha=-0.1,0,0.1 --seeds "$SEEDS" --features "$FEATURES" ${WEIGHTS:+--weights "$WEIGHTS"} \
    --reference "$REFERENCE" -n "$N" --jobs "$JOBS" --output "$out/sweep"
sagd report "$out/sweep" --output "$out/report.html" --force
