"""Standard output holds results alone, whoever else writes to it."""

import ctypes
import io
import os
import subprocess
import sys
from contextlib import redirect_stdout

import pytest

from sagd_cli.system.redirection import stdout_for_results

WRITERS = {
    "print": lambda: print("noise"),
    "descriptor": lambda: os.write(1, b"noise\n"),
    "C code": lambda: ctypes.CDLL(None).puts(b"noise"),
    "a child": lambda: subprocess.run(["echo", "noise"], check=True),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_not_a_result_goes_to_standard_error(writer, capfd):
    with stdout_for_results() as results:
        WRITERS[writer]()
        print("result", file=results, flush=True)
    WRITERS[writer]()
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)
    assert capfd.readouterr() == ("result\nnoise\n", "noise\n")


def test_blocks_nest(capfd):
    with stdout_for_results() as results:
        with stdout_for_results():
            print("inner")
        print("outer")
        print("result", file=results, flush=True)
    assert capfd.readouterr() == ("result\n", "inner\nouter\n")


def test_an_error_leaves_the_streams_as_they_were(capfd):
    before = sys.stdout
    with pytest.raises(ZeroDivisionError), stdout_for_results():
        raise ZeroDivisionError
    assert sys.stdout is before
    os.write(1, b"seen\n")
    assert capfd.readouterr().out == "seen\n"


def test_an_output_that_is_not_the_process_s_is_used_as_it_is():
    text = io.StringIO()
    with redirect_stdout(text), stdout_for_results() as results:
        print("noise")
        print("result", file=results)
    assert text.getvalue() == "result\n"


PROBE = """
import ctypes, os, sys
from sagd_cli.system.redirection import stdout_for_results
old = sys.stdout
with stdout_for_results() as results:
    print("noise"); old.write("old noise\\n"); os.write(1, b"raw noise\\n"); ctypes.CDLL(None).puts(b"C noise")
    print("résult", file=results, flush=True)
print("after")
"""


def test_the_output_of_a_process_of_its_own():
    """There, results need a stream of their own, and the old one is still held by other code."""
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, check=True, encoding="utf-8")
    assert done.stdout == "résult\nafter\n"
    assert sorted(done.stderr.splitlines()) == ["C noise", "noise", "old noise", "raw noise"]
