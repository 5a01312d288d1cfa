"""What `doctor` looks at without torch: Python, packages, disk, and whether the run's folder can be written.

A configuration, or none, flows in; findings with fixes flow out. Model and dictionaries are `harvest.checkup`'s.
"""

import importlib.util
import os
import sys
from pathlib import Path

from autointerp.config import RunConfig
from autointerp.harvest.events import free_bytes
from autointerp.provenance import package_versions
from autointerp.records import Finding

NEEDED_FOR_HARVEST = ("torch", "transformer_lens")


def check_machine() -> list[Finding]:
    """Python and the packages that move figures."""
    versions = package_versions()
    findings = [Finding("ok", "python", sys.version.split()[0])]
    for name in NEEDED_FOR_HARVEST:
        there = importlib.util.find_spec(name) is not None
        fix = "" if there else "install autointerp[harvest] where the harvest runs; everything after it works without"
        findings.append(Finding("ok" if there else "warn", name, versions.get(name, "not installed"), fix))
    findings += [Finding("ok", n, v) for n, v in versions.items() if n not in (*NEEDED_FOR_HARVEST, "python")]
    return findings


def check_folder(config: RunConfig) -> Finding:
    """Whether the run's folder can be made and written, and the room there."""
    folder: Path = config.out
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return Finding("fail", "output", f"{folder} cannot be written", "choose another --out")
    free = free_bytes(folder)
    low = free < 1e9
    return Finding("warn" if low else "ok", "disk", f"{free / 1e9:.1f} GB free", "free some" if low else "")
