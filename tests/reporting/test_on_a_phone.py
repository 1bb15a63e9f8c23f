"""In a browser as narrow as a phone the report and the comparison don't scroll sideways."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vla.conf.report import ReportConfig
from vla.reporting.comparison import write_comparison_or_report
from vla.reporting.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTH = 390  # CSS pixels of a usual phone

PROBE = """<!doctype html><iframe id=page src="{page}" style="width:{width}px;height:900px;border:0"></iframe>
<p id=found>nothing</p><script>
document.getElementById("page").onload = event => {{
  const root = event.target.contentDocument.documentElement;
  const size = parseFloat(getComputedStyle(root.querySelector("p, td")).fontSize);
  document.getElementById("found").textContent =
    `inside ${{root.scrollWidth}} of ${{root.clientWidth}}, text ${{size}}, height ${{root.scrollHeight}}`;
}};
</script>
"""


def measured(page: Path, folder: Path) -> dict[str, float]:
    """What a browser says of a page in a frame as wide as a phone."""
    probe = folder / "probe.html"
    probe.write_text(PROBE.format(page=page.resolve().as_uri(), width=WIDTH))
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000", "--dump-dom", probe.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = re.search(r"inside (\d+) of (\d+), text ([\d.]+), height (\d+)", done.stdout)
    assert found is not None, done.stderr[-2000:]
    return dict(zip(("needed", "there", "text", "height"), map(float, found.groups()), strict=True))


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize("kind", ["report", "comparison"])
def test_it_does_not_scroll_sideways(run_dir: Path, tmp_path: Path, kind: str) -> None:
    if kind == "report":
        page = write_report(run_dir)
    else:
        other = shutil.copytree(run_dir, tmp_path / "another-run-with-a-rather-long-name")
        page = write_comparison_or_report(ReportConfig((run_dir, other), tmp_path / "comparison.html"))
    found = measured(page, tmp_path)
    assert found["needed"] <= found["there"] <= WIDTH and found["height"] > 1000 and found["text"] >= 12
