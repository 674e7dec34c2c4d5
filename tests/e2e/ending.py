"""The end: a restart loses nothing, and the log of the whole run told nothing."""

import re

from matrix import IDENTITY
from steps import expect, expect_json
from story import expect_published
from world import Chapter, World

CHAPTER = Chapter()


@CHAPTER.step
def restart_keeps_everything(world: World) -> None:
    """Bindery ends in good order on SIGTERM, and starts again where it was"""
    expect(world.bindery.stop(), 0, "the exit status")
    world.bindery.run()
    account = expect_json(world.bindery.api.get(f"{IDENTITY}/account", world.bob.identity_token))
    expect(account["user_id"], world.bob.user_id, "the owner of the token")
    expect_published(world, {})


@CHAPTER.step
def log_tells_nothing(world: World) -> None:
    """Bindery's log has no address, number, code, token or secret of this run"""
    log = world.bindery.log.read_text(errors="replace").lower()
    expect(bool(log.strip()), True, "Bindery logs something")
    # Of an address, the part before the @; numbers have none.
    words = world.secrets | {address.split("@")[0] for address in world.private}
    found = sorted(word for word in words if word.lower() in log)
    # Six digits may be a part of a time.
    found += sorted(code for code in world.codes if re.search(rf"(?<![\d.]){code}(?!\d)", log))
    expect(found, [], "in the log")
