"""Results of `sagd omit` in words."""

import io

from rich.console import Console

from sagd_cli.restoration.words import PART_HEADINGS, omission_text, part_rows

TONE = {
    **{
        "part": "notch:0.2,0.15,0.01",
        "kind": "tone",
        "direction": 36.9,
        "period": 4.0,
        "frequency": [0.2, 0.15],
    },
    **{"strength_before": 0.5, "strength_after": 0.01, "grey_levels_before": 7.07, "grey_levels_after": 0.14},
}
LOST = {
    **{"part": "0.5:1", "kind": "ring", "direction": None, "period": None, "frequency": None},
    **dict.fromkeys(("strength_before", "strength_after", "grey_levels_before", "grey_levels_after")),
}


def result(count):
    files = [
        {"input": f"in/[{k}].png", "parts": [TONE, LOST], "method": "restorer-mean"} for k in range(count)
    ]
    return {"output": "o", "files": files, "band": None, "noise": "white", "method": "restorer-mean"}


def shown(text):
    stream = io.StringIO()
    Console(file=stream, width=120).print(text)
    return stream.getvalue()


def test_nothing_is_said_of_images_when_all_failed():
    assert shown(omission_text(result(0) | {"noise": None})) == "o: nothing restored\n"


def test_of_few_images_each_part_is_listed():
    text = shown(omission_text(result(2)))
    assert text.startswith("o: 2 images, noise white, restorer-mean\n[0].png")
    assert all(heading in text for heading in PART_HEADINGS) and "[1].png" in text
    (line, *_) = [line for line in text.splitlines() if line.startswith("tone")]
    assert line.split() == [
        "tone",
        "36.9°",
        "4",
        "px",
        "0.5",
        "before,",
        "0.01",
        "after",
        "7.07",
        "before,",
        "0.14",
        "after",
    ]


def test_of_many_images_and_of_images_without_noise_the_sum_is_told():
    assert omission_text(result(5)) == "o: 5 images, noise white, restorer-mean"
    clean = {**result(1), "noise": None, "method": "unchanged"}
    clean["files"] = [{"input": "a.png", "parts": [], "noise": None, "method": "unchanged"}]
    assert omission_text(clean) == "o: 1 images, no noise found in 1, unchanged"
    lines = {"input": "b.png", "parts": [], "noise": "stripe:horizontal,0,0", "method": "lines"}
    both = {**clean, "files": [lines, *clean["files"], lines], "method": "lines, unchanged"}
    assert omission_text(both) == "o: 3 images, no noise found in 1, lines in 2, unchanged in 1"


def test_what_is_lost_and_what_older_records_do_not_say_has_rows_as_well():
    assert part_rows({"parts": [LOST]}) == [("ring", "", "", "lost", "lost")]
    assert part_rows({"input": "a.png"}) == []
