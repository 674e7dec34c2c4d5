"""Runs the programs in `js/` with Node: what Matrix web clients are made of."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any


class JavaScript:
    """Node, with the packages of `js/package-lock.json` installed in `home`."""

    def __init__(self, home: Path, authority: Path) -> None:
        self._home = home
        self._authority = authority

    @property
    def axe(self) -> str:
        """The program that checks pages for people who see or move differently."""
        return (self._home / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")

    def run(self, program: str, arguments: dict[str, str]) -> Any:
        """What a program says, as JSON; the arguments go to its standard input."""
        done = subprocess.run(
            ["node", program],
            cwd=self._home,
            env=os.environ | {"NODE_EXTRA_CA_CERTS": str(self._authority)},
            input=json.dumps(arguments),
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode != 0:
            raise AssertionError(f"{program}: {done.stderr.strip().splitlines()[-1:]} {done.stderr[:800]!r}")
        return json.loads(done.stdout.splitlines()[-1])
