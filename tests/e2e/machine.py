"""A Debian that boots in a container with a network of its own, and commands in it."""

import ctypes
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from steps import poll

CLONE_NEWNET = 0x40000000

T = TypeVar("T")


class Machine:
    """One container; it boots systemd. Nothing in it reaches a network beyond its own loopback."""

    def __init__(self, home: Path, debian: Path) -> None:
        self.root = home / "root"
        self.log = home / "boot.log"
        self.root.mkdir()
        with tarfile.open(debian) as archive:
            archive.extractall(self.root, numeric_owner=True, filter="fully_trusted")
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def boot(self) -> None:
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network"]
        command += [f"--directory={self.root}", "--hostname=debian", "--console=pipe", "--boot"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._leader = poll(self._find_leader, 30, "the container has an init")
        poll(lambda: self._try("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"), 60,
             "the machine has booted")

    def power_off(self) -> None:
        """Ends it and everything in it."""
        process, self._process = self._process, None
        if process is None:
            return
        self._try("systemctl", "poweroff")
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)

    def run(self, *command: str, seconds: float = 60, status: int = 0, text: str | None = None) -> str:
        """Runs a command in it as root; what it printed. Fails if it ends with another status."""
        done = self._try(*command, seconds=seconds, text=text)
        if done.returncode != status:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-800:]}")
        return done.stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Writes a file in it as root."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def put(self, source: Path, path: str) -> None:
        """Copies a file into it."""
        shutil.copy(source, self.root / path.lstrip("/"))

    def journal(self) -> str:
        """The end of what the server said."""
        return self._try("journalctl", "--no-pager", "--unit=bindery", "--lines=60").stdout

    def on_network(self, action: Callable[[], T]) -> T:
        """Runs an action of this process on the network of the machine."""
        results: list[T] = []
        problems: list[BaseException] = []

        def inside() -> None:
            try:
                with Path(f"/proc/{self._leader}/ns/net").open() as network:
                    if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "cannot enter the network of the machine")
                results.append(action())
            except BaseException as problem:
                problems.append(problem)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if problems:
            raise problems[0]
        return results[0]

    def _try(
        self, *command: str, seconds: float = 60, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", f"--target={self._leader}", "--all", "--", "env", "--ignore-environment"]
        enter += ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "HOME=/root"]
        return subprocess.run(
            enter + list(command),
            input=text or "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )

    def _find_leader(self) -> int:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the container ended: {self.log.read_text(errors='replace')[-800:]}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in children:
            # The child becomes the init of the container when it runs systemd.
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return int(child)
        return 0
