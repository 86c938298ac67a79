"""What several tests of the command line expect."""


def refused(result, code, *fragments):
    """One sentence of error, nothing on standard output."""
    assert result.code == code, result
    assert result.out == "" and "Traceback" not in result.err
    lines = result.err.splitlines()
    assert [line[:6] for line in lines] == ["error:"], result.err
    for fragment in fragments:
        assert fragment in lines[0]
