"""The page in the documentation is the one that its program prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "prometheus.md"


def test_the_page_in_the_documentation() -> None:
    """The program of `docs/prometheus.md` prints the page that is shown below it, and nothing else."""
    blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```$", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL))

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", blocks["python"]], capture_output=True, encoding="utf-8", check=False
    )

    assert (done.stdout, done.stderr) == (blocks["prometheus"], "")
