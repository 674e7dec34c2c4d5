"""Everyone in the story, and what they do in more than one chapter of it."""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import requests

from browser import Browser
from gateway import Gateway
from javascript import JavaScript
from mail import Mail, Mailbox
from matrix import CLIENT, IDENTITY, Person, register
from servers import Bindery, Synapse
from steps import expect, expect_json, poll
from sydent import Sydent


@dataclass(frozen=True)
class Validation:
    """A validation session, and the mail that it sent."""

    sid: str
    client_secret: str
    mail: Mail

    @property
    def proof(self) -> dict[str, str]:
        return {"sid": self.sid, "client_secret": self.client_secret}


@dataclass
class World:
    """Everyone in the story, and what one step leaves to the next."""

    synapse: Synapse
    bindery: Bindery
    mailbox: Mailbox
    gateway: Gateway
    browser: Browser
    browser_without_scripts: Browser
    javascript: JavaScript
    private: set[str]
    sydent: Sydent
    moved: Bindery
    people: dict[str, Person] = field(default_factory=dict)
    rooms: dict[str, str] = field(default_factory=dict)
    validations: dict[str, Validation] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    codes: set[str] = field(default_factory=set)
    read: set[int] = field(default_factory=set)
    looked_at: set[tuple[str, str]] = field(default_factory=set)

    @property
    def alice(self) -> Person:
        return self.people["alice"]

    @property
    def bob(self) -> Person:
        return self.people["bob"]


Step = Callable[[World], None]


class Chapter(list[Step]):
    """Steps that run in the order in which they stand in their file and build on each other.

    The docstring of a step is the line that the run prints, so it is a sentence that can be read alone.
    `private` are the addresses and numbers of the chapter, which Bindery's log must not hold.
    """

    def __init__(self, private: Iterable[str] = ()) -> None:
        super().__init__()
        self.private = set(private)

    def step(self, action: Step) -> Step:
        self.append(action)
        return action


def new_person(world: World, name: str) -> Person:
    """Somebody with an account at Synapse."""
    person = register(world.synapse.api, world.synapse.shared_secret, name, secrets.token_urlsafe())
    expect(person.user_id, f"@{name}:{world.synapse.server_name}", "the user id")
    world.people[name] = person
    world.secrets |= {person.token, person.password}
    return person


def accept_terms(world: World, person: Person) -> None:
    accepted = {"user_accepts": [world.bindery.policy["de"]]}
    expect_json(world.bindery.api.post(f"{IDENTITY}/terms", accepted, person.identity_token))


def exchange(world: World, person: Person) -> str:
    """Turns a fresh OpenID token of this person into a token of Bindery."""
    path = f"{CLIENT}/user/{person.user_id}/openid/request_token"
    openid = expect_json(world.synapse.api.post(path, {}, person.token))
    token: str = expect_json(world.bindery.api.post(f"{IDENTITY}/account/register", openid))["token"]
    world.secrets |= {openid["access_token"], token}
    return token


def newcomer(world: World, name: str) -> Person:
    """Somebody with an account at Synapse and at Bindery, who has accepted the terms."""
    person = new_person(world, name)
    person.identity_token = exchange(world, person)
    accept_terms(world, person)
    return person


def request_token() -> str:
    return f"{IDENTITY}/validate/email/requestToken"


def validate(world: World, person: Person, typed: str, canonical: str, **more: str) -> Validation:
    """Starts a validation session; its one mail has arrived when Bindery has answered."""
    client_secret = secrets.token_urlsafe()
    before = len(world.mailbox.to(canonical))
    request = {"client_secret": client_secret, "email": typed, "send_attempt": 1} | more
    sid = expect_json(world.bindery.api.post(request_token(), request, person.identity_token))["sid"]
    mails = world.mailbox.to(canonical)
    expect(len(mails) - before, 1, f"mails to {canonical}")
    world.secrets |= {client_secret, mails[-1].token}
    return Validation(sid, client_secret, mails[-1])


def submit(world: World, person: Person, validation: Validation, token: str) -> requests.Response:
    path = f"{IDENTITY}/validate/email/submitToken"
    return world.bindery.api.post(path, validation.proof | {"token": token}, person.identity_token)


def validated_session(world: World, person: Person, validation: Validation) -> requests.Response:
    path = f"{IDENTITY}/3pid/getValidated3pid"
    return world.bindery.api.get(path, person.identity_token, **validation.proof)


def bind(world: World, person: Person, validation: Validation) -> requests.Response:
    """Asks Synapse to bind, as clients do."""
    request = validation.proof | {
        "id_server": world.bindery.server_name,
        "id_access_token": person.identity_token,
    }
    return world.synapse.api.post(f"{CLIENT}/account/3pid/bind", request, person.token)


def publish(world: World, person: Person, address: str) -> None:
    """This person validates an address through their client and has it published."""
    validation = validate(world, person, address, address)
    expect_json(submit(world, person, validation, validation.mail.token))
    expect_json(bind(world, person, validation))


def ask_for_page(world: World, address: str) -> str:
    """Asks for the link to the page of an address; the page that answers."""
    answer = world.bindery.api.form("/me", {"address": address})
    expect(answer.status_code, 200, "the status")
    return answer.text


def visit_link(world: World, address: str) -> str:
    """The link of the next mail that leads to the page of its own data."""
    link = next_mail(world, address, "/me/visit/").find_link("/me/visit/")
    world.secrets.add(urlsplit(link).path.rpartition("/")[2])
    return link


def next_mail(world: World, address: str, link: str) -> Mail:
    """The next mail to an address that has this in its text and that no step has read."""

    def unread() -> list[Mail]:
        return [
            mail
            for mail in world.mailbox.mails
            if mail.recipients == [address]
            and id(mail) not in world.read
            and not mail.asks
            and link in mail.part("text/plain")
            and ("/me/visit/" in mail.part("text/plain")) == ("/me/visit/" in link)
        ]

    poll(unread, 15, f"a mail to {address}")
    mail = unread()[0]
    world.read.add(id(mail))
    return mail
