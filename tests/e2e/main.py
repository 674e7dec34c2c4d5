"""The end-to-end run: brings everything up on loopback, tells the story, takes everything down.

The last line is `N passed, N failed`; the exit status is 0 only if nothing failed.
"""

import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NoReturn

import certs
import ending
import invitations
import me
import moving
import pages
import phones
import story
from browser import Browser
from gateway import Gateway
from javascript import JavaScript
from mail import Mailbox
from servers import Bindery, Nginx, Server, Synapse, adopt_orphans, end_children, free_ports
from steps import Steps
from sydent import Sydent
from world import World

LONGEST_RUN = 900
STORY = [
    story.CHAPTER,
    invitations.CHAPTER,
    phones.CHAPTER,
    me.CHAPTER,
    pages.CHAPTER,
    moving.CHAPTER,
    ending.CHAPTER,
]


@dataclass(frozen=True)
class Settings:
    """What the run is told by its environment."""

    program: Path
    shots: Path
    packages: Path
    sydent_python: Path

    @classmethod
    def take(cls) -> "Settings":
        """Takes them out of the environment, with what would mislead the servers.

        Bindery reads BINDERY_* as its configuration, and everyone in the story is on this machine.
        """
        taken = {
            name: os.environ.pop(name)
            for name in list(os.environ)
            if name.startswith("BINDERY_") or name.lower().endswith("_proxy")
        }
        shots = taken.get("BINDERY_E2E_SHOTS") or f"{taken['BINDERY_E2E_CACHE']}/shots"
        packages = Path(taken["BINDERY_E2E_JS"])
        # Not resolved: an environment's Python is a link, and where it is decides what it imports.
        python = Path(taken["BINDERY_E2E_SYDENT"]).absolute()
        return cls(Path(taken["BINDERY_BIN"]).resolve(), Path(shots).resolve(), packages.resolve(), python)


class Interrupted(BaseException):
    """The run has to end now; not an Exception, so that no step takes it for its own failure."""


def main() -> int:
    adopt_orphans()
    end_when_told()
    settings = Settings.take()
    steps = Steps()
    try:
        run(settings, steps)
    except (Exception, Interrupted) as reason:
        steps.failed += 1
        print(f"FAIL  the run ended early: {reason!r}")
    print(f"{steps.passed} passed, {steps.failed} failed", flush=True)
    return 1 if steps.failed else 0


def run(settings: Settings, steps: Steps) -> None:
    """The story, in a directory and with servers of its own."""
    with tempfile.TemporaryDirectory(prefix="bindery-e2e-") as home, ExitStack() as cleanup:
        cleanup.callback(end_children)
        servers: list[Server] = []
        done = False
        try:
            world = bring_up(settings, steps, Path(home), servers, cleanup)
            if world is not None:
                for action in chain.from_iterable(STORY):
                    steps.run(action.__doc__ or action.__name__, partial(action, world))
            done = True
        finally:
            if steps.failed or not done:
                for server in servers:
                    print(f"\n----- the end of {server.name}'s log -----\n{server.log_tail()}\n")


def bring_up(
    settings: Settings, steps: Steps, home: Path, servers: list[Server], cleanup: ExitStack
) -> World | None:
    """Starts everyone, each start a step; without any one of them there is no story."""
    synapse_port, bindery_port, public_port, mail_port, metrics_port, sms_port = free_ports(6)
    moved_port, moved_public_port, moved_metrics_port, replication_port = free_ports(4)
    certificates = certs.issue(home)

    mailbox = Mailbox(mail_port)
    gateway = Gateway(sms_port)
    identity_server = f"https://localhost:{public_port}"
    synapse = Synapse(home / "synapse", synapse_port, certificates, identity_server)
    nginx = Nginx(home / "nginx", public_port, bindery_port, certificates)
    onward = f"https://localhost:{synapse_port}/_matrix/"

    def new_bindery(name: str, port: int, public_port: int, metrics_port: int) -> Bindery:
        return Bindery(
            settings.program,
            home / name,
            port,
            public_port,
            mail_port,
            metrics_port,
            gateway.url,
            certificates,
            onward,
        )

    bindery = new_bindery("bindery", bindery_port, public_port, metrics_port)
    # The last chapter moves Sydent's users over to this one, which is at the same address.
    moved = new_bindery("moved", moved_port, moved_public_port, moved_metrics_port)
    moved_nginx = Nginx(home / "moved-nginx", moved_public_port, moved_port, certificates)
    sydent = Sydent(
        settings.sydent_python,
        home / "sydent",
        moved_port,
        replication_port,
        moved_public_port,
        mail_port,
        certificates,
        moved.policy,
    )
    javascript = JavaScript(settings.packages, certificates.authority)
    browsers: list[Browser] = []

    def start_mailbox() -> None:
        cleanup.callback(mailbox.stop)
        mailbox.start()

    def start_gateway() -> None:
        cleanup.callback(gateway.stop)
        gateway.start()

    def start(server: Synapse | Nginx | Bindery | Sydent) -> None:
        cleanup.callback(server.stop)
        servers.append(server)
        server.run()

    def start_browsers() -> None:
        settings.shots.mkdir(parents=True, exist_ok=True)
        axe = javascript.axe
        for name, scripts in (("chromium", True), ("chromium-without-scripts", False)):
            browser = Browser(bindery.server_name, home / name, settings.shots, axe, scripts)
            cleanup.callback(browser.close)
            browsers.append(browser)

    ready = (
        steps.run("the mail server takes mail", start_mailbox)
        and steps.run("the gateway takes messages", start_gateway)
        and steps.run("Synapse answers over TLS", partial(start, synapse))
        and steps.run("nginx listens", partial(start, nginx))
        and steps.run("Bindery answers through nginx", partial(start, bindery))
        and steps.run("nginx listens where Sydent is", partial(start, moved_nginx))
        and steps.run("Sydent answers through nginx", partial(start, sydent))
        and steps.run("Chromium starts, with and without JavaScript", start_browsers)
    )
    if not ready:
        return None
    cleanup.callback(moved.stop)
    servers.append(moved)
    private = {one for chapter in STORY for one in chapter.private}
    return World(
        synapse, bindery, mailbox, gateway, browsers[0], browsers[1], javascript, private, sydent, moved
    )


def end_when_told() -> None:
    """Signals, and the end of the time there is, unwind the run, so that everything is ended."""

    def interrupt(number: int, _frame: object) -> NoReturn:
        signal.alarm(0)
        if number == signal.SIGALRM:
            raise Interrupted(f"not done within {LONGEST_RUN} s")
        raise Interrupted(signal.Signals(number).name)

    for number in (signal.SIGALRM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    signal.alarm(LONGEST_RUN)


if __name__ == "__main__":
    sys.exit(main())
