#!/usr/bin/env bash
# The whole job on the embedded digits: design a filter, train, sample, measure, damage images, repair them.
# Usage: examples/quickstart.sh [OUTPUT]     (needs `sagd` on the PATH; run again, it resumes the training)
set -euo pipefail
out=${1:-quickstart-output}

sagd filter design --type powerlaw -o alpha=-0.06 --output "$out/filter.yaml" --force
sagd filter show "$out/filter.yaml" --size 8x8

sagd train --filter "$out/filter.yaml" --images 120000 --output "$out/run"
sagd sample "$out/run" -n 1000 --output "$out/samples" --grid "$out/samples.png" --force
sagd fid "$out/samples" digits:test --spectra --output "$out/run/evaluation/test.json" --force

sagd data prepare digits:test --output "$out/clean" --force
sagd corrupt "$out/clean" --band high --strength 0.5 --output "$out/damaged" --force
sagd omit "$out/damaged" --band high --truth "$out/clean" --output "$out/restored" --force \
    --record "$out/run/evaluation/omission.json"

sagd report "$out/run" --output "$out/report.html" --force
