"""The appliance run: the .deb is installed, run, broken, upgraded and purged on a Debian that really boots.

The last line is `N passed, N failed`; the exit status is 0 only if nothing failed.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import requests

from machine import Machine
from steps import Steps, expect, poll

HERE = Path(__file__).parent
DATABASES = HERE.parent / "data" / "databases"

LOWER_VERSION = "0.0.1-1"
# The figure of `systemd-analyze security`: 0 is the tightest sandbox, 10 none.
MOST_EXPOSED = 1.5
URL = "http://127.0.0.1:8090"
CONFIGURATION = """\
# The name that the committed old database belongs to.
server_name = "id.test"
public_base_url = "https://id.test"
data_dir = "/var/lib/bindery"

[operator]
name = "Example Society"
"""

STEPS: list[Callable[["Appliance"], None]] = []


class Appliance:
    """The machine and the packages."""

    def __init__(self, home: Path, debian: Path, package: Path) -> None:
        self.machine = Machine(home, debian)
        self.package = package
        self.lower_package = with_version(package, LOWER_VERSION, home)

    def property(self, name: str, unit: str = "bindery.service") -> str:
        """What systemd says about a unit."""
        return self.machine.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def state(self) -> str:
        return self.property("ActiveState")

    def pid(self) -> str:
        """The process of the server."""
        pid = self.property("MainPID")
        if pid == "0":
            raise AssertionError("the server does not run")
        return pid

    def answers(self) -> bool:
        """Whether the server answers on the network of the machine."""

        def ask() -> bool:
            try:
                return requests.get(f"{URL}/_matrix/identity/versions", timeout=5).status_code == 200
            except requests.RequestException:
                return False

        return self.machine.on_network(ask)

    def install(self, package: Path) -> str:
        """Installs a package as an operator does: with apt, which looks at its dependencies."""
        self.machine.put(package, f"/srv/{package.name}")
        return self.machine.run("dpkg", "--install", f"/srv/{package.name}", seconds=120)

    def wait_for_new_process(self, old: str, seconds: float) -> None:
        """Waits until systemd has started the server again."""
        poll(lambda: self.property("MainPID") not in ("0", old) and self.state() == "active", seconds,
             "systemd has started the server again")
        expect(self.answers(), True, "the server answers")


def step(action: Callable[[Appliance], None]) -> Callable[[Appliance], None]:
    """The docstring is the line that the run prints."""
    STEPS.append(action)
    return action


@step
def debian_boots(appliance: Appliance) -> None:
    """a minimal Debian boots with systemd"""
    appliance.machine.boot()


@step
def installation_waits_for_a_configuration(appliance: Appliance) -> None:
    """the package installs with dpkg alone, and the server waits for a configuration"""
    said = appliance.install(appliance.lower_package)
    expect("needs a configuration" in said, True, "the package says what is missing")
    expect(appliance.state(), "inactive", "the unit")
    expect(appliance.property("UnitFileState"), "enabled", "the unit at the next boot")
    machine = appliance.machine
    expect(machine.run("stat", "-c", "%U:%G %a", "/var/lib/bindery").strip(), "bindery:bindery 700", "the data directory")
    expect(machine.run("stat", "-c", "%U:%G %a", "/etc/bindery").strip(), "root:bindery 750", "/etc/bindery")
    expect(machine.run("bindery", "--version").strip().startswith("bindery "), True, "the version")


@step
def it_starts_with_an_old_database(appliance: Appliance) -> None:
    """with a configuration and the database of the schema before, the unit becomes ready in its sandbox"""
    machine = appliance.machine
    machine.write("/etc/bindery/bindery.toml", CONFIGURATION)
    schemas = sorted(DATABASES.glob("schema-*.redb"), key=lambda path: int(re.findall(r"\d+", path.name)[-1]))
    machine.put(schemas[-2], "/var/lib/bindery/bindery.redb")
    machine.run("chown", "bindery:bindery", "/var/lib/bindery/bindery.redb")
    machine.run("chmod", "600", "/var/lib/bindery/bindery.redb")
    # Type=notify: this returns when the server has said READY=1.
    machine.run("systemctl", "start", "bindery", seconds=90)
    expect(appliance.state(), "active", "the unit")
    expect(appliance.answers(), True, "the server answers")
    expect(found(appliance), "@alice:example.org", "the account of an old binding")


@step
def the_sandbox_is_tight(appliance: Appliance) -> None:
    """systemd rates the sandbox, and finds nothing wrong in the units"""
    machine = appliance.machine
    for unit in ("bindery.service", "bindery-backup.service"):
        rated = machine.run("systemd-analyze", "security", "--no-pager", unit)
        figure = re.search(r"exposure level for [\w.-]+: ([\d.]+)", rated)
        if figure is None or float(figure[1]) > MOST_EXPOSED:
            raise AssertionError(f"{unit}: {rated[-200:]}")
    units = ["bindery.service", "bindery.socket", "bindery-backup.service", "bindery-backup.timer"]
    expect(machine.run("systemd-analyze", "verify", "--man=no", *units).strip(), "", "what systemd finds wrong")


@step
def the_sandbox_holds(appliance: Appliance) -> None:
    """the server has no capability, sees no other process, and writes only its own directories"""
    pid = appliance.pid()
    status = appliance.machine.run("cat", f"/proc/{pid}/status")
    lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        expect(int(lines[name], 16), 0, name)
    expect((lines["NoNewPrivs"], lines["Seccomp"]), ("1", "2"), "no new privileges, and a filter of system calls")
    find = ["find", "/"]
    for path in ("/proc", "/sys", "/dev"):
        find += ["-path", path, "-prune", "-o"]
    find += ["-type", "d", "-writable", "-print"]
    # What the user could write if it were where the server is.
    there = ["nsenter", f"--target={pid}", "--mount", "setpriv", "--reuid=bindery", "--regid=bindery", "--clear-groups"]
    found = appliance.machine.run(*there, "sh", "-c", f"{shlex.join(find)} 2>/dev/null || true").split()
    # Everybody may write in these; /tmp is the server's own.
    writable = set(found) - {"/tmp", "/var/tmp", "/run/lock"}
    own = ("/var/lib/bindery", "/run/bindery", "/var/backups/bindery")
    expect({path for path in writable if not path.startswith(own)}, set(), "what else it may write")
    expect(set(own) <= writable, True, "its own directories are writable")


@step
def no_library_is_loaded(appliance: Appliance) -> None:
    """no library of the system is mapped into the server: the name service's is not either"""
    pid = appliance.pid()
    maps = appliance.machine.run("cat", f"/proc/{pid}/maps")
    libraries = {line.split()[-1] for line in maps.splitlines() if ".so" in line}
    expect(libraries, set(), "libraries")


@step
def kill_is_survived(appliance: Appliance) -> None:
    """after kill -9, systemd starts the server again, and it repairs its database"""
    old = appliance.pid()
    appliance.machine.run("kill", "-9", old)
    appliance.wait_for_new_process(old, 30)
    expect(found(appliance), "@alice:example.org", "the account of an old binding")


@step
def a_hang_is_survived(appliance: Appliance) -> None:
    """a server that hangs is stopped by the watchdog and started again"""
    machine = appliance.machine
    machine.write("/etc/systemd/system/bindery.service.d/watchdog.conf", "[Service]\nWatchdogSec=3\n# A stopped process takes no SIGABRT.\nTimeoutAbortSec=2\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "bindery")
    old = appliance.pid()
    machine.run("kill", "-STOP", old)
    appliance.wait_for_new_process(old, 60)
    said = machine.run("journalctl", "--no-pager", "--unit=bindery", "--output=cat")
    expect("Watchdog timeout" in said, True, "the watchdog's word in the journal")
    machine.run("rm", "-r", "/etc/systemd/system/bindery.service.d")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "bindery")


@step
def a_wrong_configuration_is_not_tried_again(appliance: Appliance) -> None:
    """an unusable configuration fails the unit once, and the journal says what to do"""
    machine = appliance.machine
    machine.run("systemctl", "stop", "bindery")
    machine.write("/etc/bindery/bindery.toml", CONFIGURATION + "nme = 1\n")
    machine.run("systemctl", "start", "bindery", status=1)
    expect(appliance.state(), "failed", "the unit")
    expect(appliance.property("ExecMainStatus"), "78", "the exit status")
    said = machine.run("journalctl", "--no-pager", "--unit=bindery", "--output=cat", "--lines=20")
    expect("nme" in said and "name" in said, True, "the wrong key and the right one in the journal")
    machine.write("/etc/bindery/bindery.toml", CONFIGURATION)
    machine.run("systemctl", "start", "bindery")
    expect(appliance.answers(), True, "the server answers")


@step
def an_upgrade_keeps_the_data(appliance: Appliance) -> None:
    """a package of a higher version replaces the lower one, restarts the server, and keeps the data"""
    old = appliance.pid()
    appliance.install(appliance.package)
    appliance.wait_for_new_process(old, 30)
    expect(found(appliance), "@alice:example.org", "the account of an old binding")


@step
def systemd_passes_a_socket(appliance: Appliance) -> None:
    """with bindery.socket, systemd holds the port while the server restarts"""
    machine = appliance.machine
    machine.run("systemctl", "stop", "bindery")
    machine.run("systemctl", "start", "bindery.socket")
    expect(appliance.answers(), True, "the server, which the connection starts, answers")
    expect(appliance.state(), "active", "the unit")
    machine.run("systemctl", "stop", "bindery.socket", "bindery.service")
    machine.run("systemctl", "start", "bindery")


@step
def removal_keeps_the_data_and_purging_leaves_nothing(appliance: Appliance) -> None:
    """removing the package keeps configuration and data; purging it leaves nothing"""
    machine = appliance.machine
    uid = machine.run("id", "-u", "bindery").strip()
    machine.run("dpkg", "--remove", "bindery", seconds=120)
    expect(appliance.answers(), False, "the server answers")
    for path in ("/etc/bindery/bindery.toml", "/var/lib/bindery/bindery.redb"):
        machine.run("test", "-e", path)
    machine.run("dpkg", "--purge", "bindery", seconds=120)
    kept = ["-path", "/proc", "-prune", "-o", "-path", "/sys", "-prune", "-o", "-path", "/srv", "-prune", "-o"]
    left = machine.run("find", "/", *kept, "(", "-name", "*bindery*", "-o", "-uid", uid, ")", "-print")
    expect(left.split(), [], "what is left")
    machine.run("id", "bindery", status=1)


@step
def lintian_finds_nothing(appliance: Appliance) -> None:
    """lintian finds no error and no warning in the package"""
    found = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", str(appliance.package)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    expect((found.returncode, found.stdout.strip()), (0, ""), "what lintian found")


@step
def manual_pages_are_rendered(appliance: Appliance) -> None:
    """each command has a manual page, and man renders it without a complaint"""
    with tempfile.TemporaryDirectory() as unpacked:
        subprocess.run(["dpkg-deb", "--extract", appliance.package, unpacked], check=True, timeout=60)
        pages = sorted(Path(unpacked, "usr/share/man/man1").iterdir())
        expect({"bindery.1.gz", "bindery-serve.1.gz"} <= {page.name for page in pages}, True, "pages")
        for page in pages:
            command = ["man", "--warnings", "--encoding=utf8", "--local-file", str(page)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30)
            expect((done.returncode, done.stderr), (0, ""), page.name)
            expect("NAME" in done.stdout, True, f"{page.name} has its name")


@step
def shells_complete_arguments(appliance: Appliance) -> None:
    """bash, zsh and fish load the completions and offer the commands"""
    with tempfile.TemporaryDirectory() as unpacked:
        subprocess.run(["dpkg-deb", "--extract", appliance.package, unpacked], check=True, timeout=60)
        share = f"{unpacked}/usr/share"
        scripts = {
            "bash": f"source {share}/bash-completion/completions/bindery; COMP_WORDS=(bindery con); COMP_CWORD=1; "
            "_bindery bindery con bindery; echo ${COMPREPLY[@]}",
            "zsh": f"fpath=({share}/zsh/vendor-completions $fpath); autoload -Uz compinit; compinit -u -D; "
            "echo ${_comps[bindery]}; autoload +X _bindery && functions _bindery | grep -o config | head -1",
            "fish": f"source {share}/fish/vendor_completions.d/bindery.fish; complete -C 'bindery con'",
        }
        for shell, script in scripts.items():
            done = subprocess.run([shell, "-c", script], capture_output=True, text=True, timeout=30)
            expect("config" in done.stdout, True, f"{shell} offers config: {done.stdout!r} {done.stderr!r}")


def found(appliance: Appliance) -> str:
    """The account that an address of the old database leads to."""
    command = ["runuser", "-u", "bindery", "--", "bindery", "export", "--address", "alice@example.org"]
    copy = json.loads(appliance.machine.run(*command, "--config", "/etc/bindery/bindery.toml"))
    return str(copy["bindings"][0]["user_id"])


def with_version(package: Path, version: str, home: Path) -> Path:
    """The same package, under another version."""
    unpacked = home / "lower"
    subprocess.run(["dpkg-deb", "--raw-extract", package, unpacked], check=True, timeout=60)
    control = unpacked / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {version}", control.read_text()))
    lower = home / f"bindery_{version}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", unpacked, lower], check=True,
                   timeout=120, stdout=subprocess.DEVNULL)
    return lower


def main() -> int:
    steps = Steps()
    debian = Path(os.environ["BINDERY_E2E_CACHE"]) / "bookworm.tar"
    with tempfile.TemporaryDirectory(prefix="bindery-boot-") as home, ExitStack() as cleanup:
        appliance = Appliance(Path(home), debian, Path(os.environ["BINDERY_DEB"]))
        cleanup.callback(appliance.machine.power_off)
        for action in STEPS:
            if not steps.run(action.__doc__ or action.__name__, partial(action, appliance)) and action is debian_boots:
                break
        if steps.failed:
            print(appliance.machine.journal())
    print(f"{steps.passed} passed, {steps.failed} failed", flush=True)
    return 1 if steps.failed else 0


if __name__ == "__main__":
    sys.exit(main())
