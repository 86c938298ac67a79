"""What the axes of an array are: layouts such as nchw, which of them a shape suggests, and arrays brought to one."""

from typing import Any

from numpy.typing import NDArray

from sagd_cli.spectral.grid import format_shape

LAYOUTS = "letters of the axes in their order: n images, c channels, and t, hw or dhw, such as nhwc"
ORDER = "ncdhwt"  # of the axes that are worked with
FIELDS = {"t": "signal", "hw": "image", "dhw": "volume"}
MOST_CHANNELS = 4  # of an array whose order of axes is believed

# By the number of axes: the order that is meant without a layout, and orders that other programs write.
_USUAL = {1: "t", 3: "nct", 4: "nchw", 5: "ncdhw"}
_OTHERS = {1: (), 3: ("nhw", "ntc", "hwc"), 4: ("nhwc", "hwcn", "nhcw"), 5: ("ndhwc", "ndchw")}


def check_layout(text: str | None) -> str | None:
    """Return `text`; raise ValueError when it is no layout."""
    if text is None or (len({*text}) == len(text) and {*text} - {*"nc"} in map(set, FIELDS)):
        return text
    raise ValueError(f"a layout is the {LAYOUTS}")


def likely_layouts(shape: tuple[int, ...]) -> list[str]:
    """Return the layouts that an array of 1 or of 3 to 5 axes may have, first the one that is meant without a layout.

    That one is believed, and so the only one, when it gives at most 4 channels, or fields with equal sides, such as 512
    channels of 4x4. Of the others, those count that give at most 4 channels, or put them last behind fields with equal
    sides; those with equal sides come first.
    """
    usual, others = _USUAL[len(shape)], _OTHERS[len(shape)]
    if _length("c", usual, shape) <= MOST_CHANNELS or _has_equal_sides(usual, shape):
        return [usual]
    likely = [
        other
        for other in others
        if _length("c", other, shape) <= MOST_CHANNELS
        or (other[-1] == "c" and _has_equal_sides(other, shape))
    ]
    return [usual, *sorted(likely, key=lambda other: not _has_equal_sides(other, shape))]


def described(layout: str, shape: tuple[int, ...]) -> str:
    """Return in words what an array of `shape` is in a layout, such as "20 images of 28x28 in 3 channels"."""
    count, channels = (_length(letter, layout, shape) for letter in "nc")
    field = "".join(letter for letter in ORDER[2:] if letter in layout)
    sides = format_shape(tuple(_length(letter, layout, shape) for letter in field))
    words = f"{count} {FIELDS[field]}{'' if count == 1 else 's'} of {'length ' * (field == 't')}{sides}"
    return f"{words} in {channels} channel{'' if channels == 1 else 's'}"


def arranged(array: NDArray[Any], layout: str) -> NDArray[Any]:
    """Return a view of `array`, whose axes are those of `layout`, as (N, C, *spatial)."""
    present = [letter for letter in ORDER if letter in layout]
    view = array.transpose([layout.index(letter) for letter in present])
    lengths = [_length(letter, layout, array.shape) for letter in ORDER if letter in layout or letter in "nc"]
    return view.reshape(lengths)


def _has_equal_sides(layout: str, shape: tuple[int, ...]) -> bool:
    """Tell whether the fields have several sides and all of one length."""
    sides = [_length(letter, layout, shape) for letter in ORDER[2:] if letter in layout]
    return len(sides) > 1 and len({*sides}) == 1


def _length(letter: str, layout: str, shape: tuple[int, ...]) -> int:
    return shape[layout.index(letter)] if letter in layout else 1
