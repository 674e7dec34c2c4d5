"""Runs the steps of the story, prints a line for each and counts them; small assertions."""

import time
import traceback
from collections.abc import Callable
from typing import Any

import requests


class Steps:
    """Counts what passed and what failed."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0

    def run(self, title: str, action: Callable[[], None]) -> bool:
        """Runs one step; a failure is printed and counted, and the story goes on."""
        started = time.monotonic()
        try:
            action()
        except Exception as error:
            self.failed += 1
            print(f"FAIL  {title}{_where(error)}\n      {_reason(error)}", flush=True)
            return False
        self.passed += 1
        print(f"ok    {title} ({time.monotonic() - started:.1f} s)", flush=True)
        return True


def expect(actual: Any, wanted: Any, what: str) -> None:
    """`what` has the wanted value."""
    if actual != wanted:
        raise AssertionError(f"{what}: wanted {wanted!r}, got {actual!r}")


def expect_named(user_id: str, text: str, what: str) -> None:
    """The text names this account: whole, or its homeserver and its localpart at the ends of lines with labels."""
    localpart, homeserver = user_id.removeprefix("@").split(":", 1)
    lines = [line.strip("\u2068\u2069 \r") for line in text.splitlines()]
    is_named = user_id in text or all(
        any(line.endswith(part) for line in lines) for part in (homeserver, localpart)
    )
    expect(is_named, True, what)


def expect_json(response: requests.Response) -> Any:
    """The response is a success; its body."""
    if response.status_code != 200:
        raise AssertionError(f"wanted 200, got {_summary(response)}")
    return response.json()


def expect_refusal(response: requests.Response, statuses: int | set[int], errcode: str | None = None) -> None:
    """The response is a Matrix error with this status (or one of these) and errcode."""
    allowed = {statuses} if isinstance(statuses, int) else statuses
    if response.status_code not in allowed:
        raise AssertionError(f"wanted {sorted(allowed)}, got {_summary(response)}")
    actual = response.json().get("errcode")
    if errcode is None:
        if not isinstance(actual, str):
            raise AssertionError(f"no errcode in {_summary(response)}")
    else:
        expect(actual, errcode, "errcode")


def poll(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Waits until the condition is true, at most so long; its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)
    return value


def _summary(response: requests.Response) -> str:
    path = response.url.split("?")[0]
    return f"{response.status_code} {response.text[:300]} ({response.request.method} {path})"


def _where(error: Exception) -> str:
    """The innermost line in the file of the step: what it calls elsewhere says too little."""
    # The first frame is `Steps.run` itself.
    frames = traceback.extract_tb(error.__traceback__)[1:]
    lines = [frame.lineno for frame in frames if frame.filename == frames[0].filename]
    return f" [{frames[0].filename.rsplit('/', 1)[-1]}:{lines[-1]}]" if lines else ""


def _reason(error: Exception) -> str:
    text = str(error).strip() or "no message"
    return f"{type(error).__name__}: {text.splitlines()[0][:1000]}"
