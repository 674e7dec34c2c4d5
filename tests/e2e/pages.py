"""Every page, with every outcome, in every language: in order in light and dark, and in pictures.

A new page that anybody may open is a row of OPEN, one of a visit is a row of VISIT, and an outcome that
needs a deed is looked at in a step. The last step compares with the texts and names what is missing.

Left out are what people see when the server itself has failed, which takes a broken disk, and what the
list of notices says of later versions: here there is one.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import requests

from matrix import IDENTITY, Person
from servers import LOOPBACK
from steps import expect, expect_json, poll
from world import Chapter, World, ask_for_page, newcomer, publish, validate, visit_link

LANGUAGES = ["en", "fr", "de", "es"]
# "fr" alone may well be in the log, which must not hold the part before the @.
READERS = {language: f"{language}.reader@example.org" for language in LANGUAGES}
OWNERS = {language: f"{language}.owner@example.org" for language in LANGUAGES}
HURRIED = "hurried.reader@example.org"
NOBODY = "nobody.at.all@example.org"
ADDRESSES = [*READERS.values(), *OWNERS.values(), HURRIED, NOBODY]

# What anybody may open: the name of its pictures, where it is, what it reports. The front page and the
# notices report nothing.
OPEN = [
    ("front", "/?lang={}", None),
    ("notices", "/privacy?lang={}", None),
    ("notice", "/privacy/1/{}", None),
    ("notice-unknown", "/privacy/7/{}", "unknown_edition"),
    ("confirm-invalid", "/c/x?lang={}", "invalid"),
    ("me", "/me?lang={}", "me"),
    ("me-over", "/me/data?lang={}", "over"),
    ("me-link-over", "/me/visit/x?lang={}", "link_over"),
]
# What an owner may open while they visit their page.
VISIT = [
    ("me-data", "/me/data?lang={}", "me_data"),
    ("me-erase", "/me/erase?lang={}", "me_erase"),
]
TEXTS = Path(__file__).resolve().parents[2] / "assets/i18n/en.toml"

CHAPTER = Chapter(private=ADDRESSES)


@CHAPTER.step
def what_anybody_may_open(world: World) -> None:
    """what anybody may open is in order in four languages, light and dark"""
    for language in LANGUAGES:
        _open_each(world, language, OPEN)


@CHAPTER.step
def links_of_validations(world: World) -> None:
    """each outcome of a mail's links is in order: stop, ask, verified, used, withdrawn, expired"""
    kim = newcomer(world, "kim")
    expired = world.validations["guessed"].mail.link
    for language in LANGUAGES:
        mail = validate(world, kim, READERS[language], READERS[language]).mail
        link = _in(language, mail.link)
        world.browser.open(_in(language, mail.stop_link))
        _look(world, language, "stop", "stop")
        world.browser.open(link)
        _look(world, language, "confirm-ask", "ask")
        world.browser.decide("confirm", outcome="verified")
        _look(world, language, "confirm-verified", "verified")
        world.browser.open(link)
        _look(world, language, "confirm-used", "used")
        world.browser.decide("withdraw", outcome="withdrawn")
        _look(world, language, "confirm-withdrawn", "withdrawn")
        world.browser.open(_in(language, expired))
        _look(world, language, "confirm-expired", "expired")


@CHAPTER.step
def forms_that_ask_for_an_address(world: World) -> None:
    """the answers of the form that asks for a link to one's own page are in order"""
    for language in LANGUAGES:
        _open(world, f"/me?lang={language}")
        world.browser.submit({"address": NOBODY})
        _look(world, language, "me-sent", "me_sent")
        _open(world, f"/me?lang={language}")
        world.browser.submit({"address": "nothing"})
        _look(world, language, "me-unreadable", "unreadable")


@CHAPTER.step
def visits_of_owners(world: World) -> None:
    """an owner's page is in order with an address published, and so are both second questions and the goodbye"""
    lea = newcomer(world, "lea")
    for language in LANGUAGES:
        publish(world, lea, OWNERS[language])
        validate(world, world.people["kim"], OWNERS[language], OWNERS[language])
        world.bindery.command("export", "--address", OWNERS[language])
        _follow_link(world, language)
        _look(world, language, "me-visit", "me_visit")
        _enter(world)
        _open_each(world, language, VISIT)
        _open(world, f"/me/data?lang={language}")
        _do(world, language, "language", "language_changed")
        world.browser.submit({}, form="form[action^='/me/close']")
        _look(world, language, "me-closed", "me_closed")


@CHAPTER.step
def deeds_of_owners(world: World) -> None:
    """an owner's page is in order after each thing done, and so is the page after erasing"""
    for language in LANGUAGES:
        _follow_link(world, language)
        _enter(world)
        world.mailbox.failing = True
        try:
            _do(world, language, "withdraw", "withdrawn")
            _invite(world, world.people["kim"], OWNERS[language])
            _do(world, language, "suppress", "suppressed")
            _do(world, language, "allow", "allowed")
            _do(world, language, "suppress", "suppressed")
        finally:
            world.mailbox.failing = False
        _open(world, f"/me/erase?lang={language}")
        world.browser.submit({})
        _look(world, language, "me-erased", "me_erased")


@CHAPTER.step
def too_much_at_once(world: World) -> None:
    """the pages for people who ask too often are in order"""
    guessed = urlsplit(world.validations["guessed"].mail.link).path
    link = validate(world, world.people["lea"], HURRIED, HURRIED).mail.link
    for language in LANGUAGES:
        world.browser.open(_in(language, link))
        _use_up(world, guessed, {"decision": "confirm"})
        world.browser.decide("confirm", outcome="busy")
        _look(world, language, "confirm-busy", "busy")
        _open(world, f"/me?lang={language}")
        _use_up(world, "/me", {"address": NOBODY})
        world.browser.submit({"address": NOBODY})
        _look(world, language, "me-busy", "me_busy")


@CHAPTER.step
def no_page_is_left_out(world: World) -> None:
    """every page and every deed done that the texts know was looked at, in four languages"""
    texts = tomllib.loads(TEXTS.read_text(encoding="utf-8"))
    # A page and an outcome each have a section with a title. The refusals of the form of `/me` are
    # among its other texts, so nothing finds one that is missing here.
    wanted = {section for section, content in texts.items() if "title" in content} - {"failed"}
    wanted |= {f"me_done.{done}" for done in texts["me_done"]}
    everywhere = {(language, section) for language in LANGUAGES for section in wanted}
    expect(sorted(everywhere - world.looked_at), [], "pages that nobody looked at")


def _open(world: World, path: str) -> None:
    world.browser.open(f"https://{world.bindery.server_name}{path}")


def _open_each(world: World, language: str, pages: Sequence[tuple[str, str, str | None]]) -> None:
    for name, path, outcome in pages:
        _open(world, path.format(language))
        _look(world, language, name, outcome)


def _look(world: World, language: str, name: str, outcome: str | None) -> None:
    """The page that comes now reports this outcome, and is in order in this language."""
    poll(lambda: world.browser.outcome() == outcome, 15, f"{name} in {language}")
    world.browser.look(name, language)
    world.looked_at.add((language, outcome or name))


def _in(language: str, link: str) -> str:
    """A mailed link, for a reader of another language than the mail's."""
    return f"{link}?lang={language}"


def _follow_link(world: World, language: str) -> None:
    """Asks for the link to the owner's page and opens it."""
    ask_for_page(world, OWNERS[language])
    world.browser.open(_in(language, visit_link(world, OWNERS[language])))


def _enter(world: World) -> None:
    """Says yes to the question that the link asks; the owner's page comes."""
    world.browser.submit({})
    poll(lambda: world.browser.outcome() == "me_data", 15, "the owner's page")


def _do(world: World, language: str, what: str, done: str) -> None:
    """Presses this button of an owner's page, which then says what was done."""
    world.browser.submit({}, form=f"form[action^='/me/{what}']")
    poll(lambda: f"/me/data?done={done}&" in world.browser.url(), 15, f"what follows {what}")
    _look(world, language, f"me-data-{done}", "me_data")
    world.looked_at.add((language, f"me_done.{done}"))


def _invite(world: World, person: Person, address: str) -> None:
    request = {
        "medium": "email",
        "address": address,
        "room_id": f"!room:{world.synapse.server_name}",
        "sender": person.user_id,
    }
    expect_json(world.bindery.api.post(f"{IDENTITY}/store-invite", request, person.identity_token))


def _use_up(world: World, path: str, values: dict[str, str]) -> None:
    """Sends this form until it is too often, from every address that the browser may have."""
    for address in LOOPBACK:
        for _ in range(500):
            answer = requests.post(
                f"http://127.0.0.1:{world.bindery.port}{path}",
                data=values,
                headers={"X-Forwarded-For": address},
                timeout=10,
            )
            if answer.status_code == 429:
                break
        else:
            raise AssertionError(f"{path} takes 500 forms from {address}")
