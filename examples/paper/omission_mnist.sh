#!/usr/bin/env bash
# The omission study of the SAGD paper (arXiv 2510.09660) on MNIST: training images damaged by noise in one of eight equal
# bands of rho, and what can be learned from them alone. For each band it compares, by Fréchet distance to the test digits,
#   standard   a model of the damaged images, white noise
#   plain      the paper's form: no noise in the band; its band of the samples left empty, or filled with the mean image's
#   blind      the same with the band hidden from the network too
#   restored   the recommended way: `sagd omit` restores the images, without any clean one; a model of those
# Usage: [VARIABLE=VALUE ...] examples/paper/omission_mnist.sh [OUTPUT]
# It needs `sagd` on the PATH and MNIST in $SAGD_DATA or ./data. Run again, it goes on where it was stopped; other values
# of the variables need another OUTPUT.
set -euo pipefail
export LC_NUMERIC=C
out=${1:-omission-mnist-output}
BANDS=${BANDS:-0 1 2 3 4 5 6 7}     # k is rho from k/8 to (k+1)/8
STRENGTH=${STRENGTH:-1}             # gamma_c, on the [-1, 1] range
TRAIN_IMAGES=${TRAIN_IMAGES:-4000}  # different images, the first of the 60,000
IMAGES=${IMAGES:-100000}            # budget of each training, counted with repetition
N=${N:-1000}                        # samples of each model
CHANNELS=${CHANNELS:-[32,64,64]}    # three widths of the network
OMIT_STEPS=${OMIT_STEPS:-400}       # training steps of `sagd omit`
DEVICE=${DEVICE:-auto}
mkdir -p "$out/done"

once() { # once NAME COMMAND...: run it unless it was already run to its end
    [[ -e $out/done/$1 ]] && return
    echo "== $1" >&2
    "${@:2}"
    touch "$out/done/$1"
}

first_images() { # the images of the study, as PNG files
    sagd data prepare mnist --output "$out/all" --force
    mkdir -p "$out/clean"
    for ((i = 0; i < TRAIN_IMAGES; i++)); do
        cp "$out/all/$(printf %06d "$i").png" "$out/clean/"
    done
}

model() { # model NAME DATA OPTION...: train NAME on DATA
    once "${1//\//-}-train" sagd train --preset mnist --filter white --dataset "$2" --images "$IMAGES" --device "$DEVICE" \
        --set "backbone.options.channels=$CHANNELS" --set "training.ema_half_life_images=$((IMAGES / 20 + 1))" \
        --output "$out/$1/run" "${@:3}"
}

score() { # score NAME SAMPLES OPTION...: draw SAMPLES from the model NAME and measure them
    local path=$out/$1/$2
    local name=${1//\//-}-$2
    once "$name-sample" sagd sample "$out/$1/run" -n "$N" --device "$DEVICE" --format npz --output "$path" --force "${@:3}"
    once "$name-pixels" sagd data prepare "$path/samples.npz" --pixels --output "$path/pixels.npy" --force
    once "$name-fid" measure "$path"
}

measure() {
    sagd fid "$1/pixels.npy" mnist:test --features digits-cnn --metrics fid --device "$DEVICE" --json >"$1/fid.json"
}

distance() { # the Fréchet distance of a fid.json
    printf %.2f "$(sed -n 's/.*"fd": \([0-9.e+-]*\).*/\1/p' "$1")"
}

once clean first_images
for k in $BANDS; do
    band=$(printf %.3f:%.3f "$((125 * k))e-3" "$((125 * k + 125))e-3")
    here=band$k damage=(--band "$band" --strength "$STRENGTH" --force)

    # As floats: 8 bits would clip the noise, and clipped noise leaves its band.
    once "$here-array" sagd corrupt "$out/clean" "${damage[@]}" --output "$out/$here/damaged.npy"
    model "$here/standard" "$out/$here/damaged.npy"
    model "$here/plain" "$out/$here/damaged.npy" --omit-band "$band"
    model "$here/blind" "$out/$here/damaged.npy" --omit-band "$band" --blind

    once "$here-files" sagd corrupt "$out/clean" "${damage[@]}" --output "$out/$here/damaged"
    once "$here-omit" sagd omit "$out/$here/damaged" "${damage[@]}" --steps "$OMIT_STEPS" --device "$DEVICE" \
        --output "$out/$here/images-restored"
    model "$here/restored" "$out/$here/images-restored"

    score "$here/standard" samples
    for form in plain blind; do
        for fill in zero mean; do
            score "$here/$form" "$fill" --fill "$fill"
        done
    done
    score "$here/restored" samples
done

format='%-12s %9s %9s %9s %9s %9s %9s\n'
# shellcheck disable=SC2059
{
    printf "$format" rho standard plain/0 plain/mean blind/0 blind/mean restored
    for k in $BANDS; do
        row=("$k/8 to $((k + 1))/8")
        for path in standard/samples plain/zero plain/mean blind/zero blind/mean restored/samples; do
            row+=("$(distance "$out/band$k/$path/fid.json")")
        done
        printf "$format" "${row[@]}"
    done
} | tee "$out/table.txt"
