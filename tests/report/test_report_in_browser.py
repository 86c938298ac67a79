"""The page as a browser shows it: no error, no request, nothing wider than the window, dark where asked for."""

import json
import shutil
import subprocess
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to look at pages with")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--allow-file-access-from-files"),
    *("--enable-logging=stderr", "--v=0", "--force-device-scale-factor=1"),
]
THE_BROWSERS_OWN = ("google.com", "googleapis.com", "gstatic.com", "gvt1.com")  # asked for whatever the page
# The page in a frame of a given width; the wrapper may measure it, being a file of the same place.
WRAPPER = """<!DOCTYPE html><body style="margin:0">
<iframe src="report.html" style="border:0;width:{width}px;height:900px"
onload="let d = this.contentDocument.documentElement; document.title = JSON.stringify(
[d.scrollWidth, d.clientWidth, [...this.contentDocument.querySelectorAll('*')].filter(e => !e.closest('.scroll') &&
e.getBoundingClientRect().right > d.clientWidth + 1).map(e => e.tagName)])"></iframe></body>"""


def browse(folder, *arguments):
    """Run Chromium in a profile of its own; return what it prints and says."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def page(tiny_run, tmp_path_factory):
    """A report of a run with names that are long and hostile."""
    from contextlib import suppress

    from sagd_cli.__main__ import main

    folder = tmp_path_factory.mktemp("browser")
    run = folder / ("<script>console.error(1)<" + "long" * 30)
    shutil.copytree(tiny_run, run)
    (run / "figures").mkdir()
    wide = np.random.default_rng(0).integers(0, 256, (40, 1500, 3), dtype=np.uint8)
    Image.fromarray(wide).save(
        run / "figures" / ("<img src=http://127.0.0.1:9 onerror=console.error(2)>".replace("/", "_") + ".png")
    )
    (run / "evaluation").mkdir()
    receipt = {
        "generated": {"path": "p" * 300, "count": 9, "sha256": "a" * 64},
        "reference": {"path": "<b>" * 50, "count": 9, "sha256": "b" * 64},
        **{
            "features": "digits-cnn",
            "layer": "64",
            "weights_sha256": "c" * 64,
            "versions": {"torch": "x" * 90},
        },
    }
    (run / "evaluation" / "a.json").write_text(json.dumps({"label": "fd@9", "fd": 1.5, "receipt": receipt}))
    with suppress(SystemExit):
        main(
            ["report", str(run), "-n", "8", "--device", "cpu", "--output", str(folder / "report.html"), "-q"]
        )
    return folder / "report.html"


def errors_and_requests(page, folder):
    """Lines of the console, and addresses that were asked for."""
    log = folder / "net.json"
    done = browse(folder, f"--log-net-log={log}", "--dump-dom", page.as_uri())
    addresses = {word.split('"')[0] for word in log.read_text(errors="replace").split('"url":"')[1:]}
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    requests = [url for url in addresses if url.startswith(("http", "ws", "ftp"))]
    return console, [url for url in requests if not (urlsplit(url).hostname or "").endswith(THE_BROWSERS_OWN)]


def test_the_browser_has_no_error_and_asks_nobody(page, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.error('no')</script>")
    console, requests = errors_and_requests(bad, tmp_path)
    assert console and "http://127.0.0.1:9/x.png" in requests  # what is looked for would be seen
    assert errors_and_requests(page, tmp_path) == ([], [])


@pytest.mark.parametrize("width", [360, 390, 800, 1280])
def test_nothing_is_wider_than_the_window(page, tmp_path, width):
    wrapper = page.with_name(f"wrapper{width}.html")
    wrapper.write_text(WRAPPER.format(width=width))
    done = browse(
        tmp_path, "--virtual-time-budget=5000", "--window-size=1400,1000", "--dump-dom", wrapper.as_uri()
    )
    title = done.stdout.partition("<title>")[2].partition("</title>")[0]
    scroll, client, wide = json.loads(title)
    assert (scroll, wide) == (client, []) and client == width


def screenshot(page, folder, width, *arguments):
    target = folder / "shot.png"
    browse(folder, f"--window-size={width},2400", f"--screenshot={target}", *arguments, page.as_uri())
    return np.asarray(Image.open(target).convert("RGB"), float)


@pytest.mark.parametrize("width", [500, 1280])
def test_light_and_dark_are_what_they_are_called(page, tmp_path, width):
    light = screenshot(page, tmp_path, width, "--blink-settings=preferredColorScheme=1")
    dark = screenshot(page, tmp_path, width, "--blink-settings=preferredColorScheme=0")
    assert light.shape == dark.shape == (2400, width, 3)
    ground = [shot[5, 5].mean() for shot in (light, dark)]
    assert ground[0] > 230 and ground[1] < 40
    assert light.std() > 10 and dark.std() > 10


def test_it_prints_on_light_paper_with_all_unfolded(page, tmp_path):
    target = tmp_path / "page.pdf"
    browse(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={target}", page.as_uri())
    assert target.read_bytes().startswith(b"%PDF") and target.stat().st_size > 20_000
