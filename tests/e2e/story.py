"""The main job: what people do with Bindery through their clients, their mail and their browser."""

import secrets

import requests

from matrix import CLIENT, IDENTITY, SigningKey, lookup
from steps import expect, expect_json, expect_refusal
from world import (
    Chapter,
    World,
    accept_terms,
    bind,
    exchange,
    new_person,
    request_token,
    submit,
    validate,
    validated_session,
)

ALICE_TYPED = "Alice.Test@Example.org"
ALICE = "alice.test@example.org"
ALICE_SECOND = "alice.second@example.org"
BOB = "bob.offline@example.org"
BOB_STRANGER = "bob.stranger@example.org"
BOB_GUESSED = "bob.guessed@example.org"
ADDRESSES = [ALICE, ALICE_SECOND, BOB, BOB_STRANGER, BOB_GUESSED]

CHAPTER = Chapter(private=ADDRESSES)


@CHAPTER.step
def people_register(world: World) -> None:
    """alice and bob have accounts at Synapse"""
    for name in ("alice", "bob"):
        new_person(world, name)


@CHAPTER.step
def openid_tokens_are_exchanged(world: World) -> None:
    """an OpenID token of Synapse becomes a token of Bindery, once for each person"""
    for person in (world.alice, world.bob):
        person.identity_token = exchange(world, person)


@CHAPTER.step
def made_up_tokens_are_refused(world: World) -> None:
    """a made-up OpenID token and a made-up access token are refused"""
    token = secrets.token_urlsafe()
    world.secrets.add(token)
    openid = {
        "access_token": token,
        "token_type": "Bearer",
        "matrix_server_name": world.synapse.server_name,
        "expires_in": 3600,
    }
    expect_refusal(world.bindery.api.post(f"{IDENTITY}/account/register", openid), 401)
    expect_refusal(world.bindery.api.get(f"{IDENTITY}/account", token), 401)


@CHAPTER.step
def terms_come_first(world: World) -> None:
    """before the terms are accepted, lookups and validations are refused"""
    api, token = world.bindery.api, world.alice.identity_token
    expect_refusal(api.get(f"{IDENTITY}/hash_details", token), 403, "M_TERMS_NOT_SIGNED")
    request = {"client_secret": "not-yet", "email": ALICE, "send_attempt": 1}
    expect_refusal(api.post(request_token(), request, token), 403, "M_TERMS_NOT_SIGNED")
    expect(len(world.mailbox.mails), 0, "mails sent")


@CHAPTER.step
def terms_are_accepted(world: World) -> None:
    """accepting the policy in German is enough in every language"""
    api = world.bindery.api
    policies = expect_json(api.get(f"{IDENTITY}/terms"))["policies"]
    policy = policies["privacy_policy"]
    offered = {language: policy[language]["url"] for language in world.bindery.policy}
    expect(offered, world.bindery.policy, "the policy on offer")
    for person in (world.alice, world.bob):
        accept_terms(world, person)
        account = expect_json(api.get(f"{IDENTITY}/account", person.identity_token))
        expect(account["user_id"], person.user_id, "the owner of the token")


@CHAPTER.step
def one_mail_is_sent(world: World) -> None:
    """validating an address in capitals sends one mail, to the canonical address"""
    validation = validate(world, world.alice, ALICE_TYPED, ALICE)
    world.validations["alice"] = validation
    expect(len(world.mailbox.mails), 1, "mails sent")
    validation.mail.check_form()


@CHAPTER.step
def same_attempt_sends_nothing(world: World) -> None:
    """the same attempt again gives the same session and sends no second mail"""
    validation = world.validations["alice"]
    request = {"client_secret": validation.client_secret, "email": ALICE_TYPED, "send_attempt": 1}
    again = world.bindery.api.post(request_token(), request, world.alice.identity_token)
    expect(expect_json(again)["sid"], validation.sid, "the session")
    expect(len(world.mailbox.mails), 1, "mails sent")


@CHAPTER.step
def opening_the_link_validates_nothing(world: World) -> None:
    """opening the mailed link asks, says for whom, and validates nothing"""
    validation, browser = world.validations["alice"], world.browser
    browser.open(validation.mail.link)
    expect(browser.outcome(), "ask", "the outcome")
    localpart, homeserver = world.alice.user_id.removeprefix("@").split(":", 1)
    expect(localpart in browser.text() and homeserver in browser.text(), True, "the page says who asked")
    expect(browser.has_decision("confirm"), True, "the page has a button Confirm")
    expect(browser.has_decision("withdraw"), True, "the page has a button to reject the request")
    expect_refusal(validated_session(world, world.alice, validation), 400, "M_SESSION_NOT_VALIDATED")


@CHAPTER.step
def confirm_validates(world: World) -> None:
    """Confirm validates the session"""
    validation = world.validations["alice"]
    world.browser.decide("confirm", outcome="verified")
    validated = expect_json(validated_session(world, world.alice, validation))
    expect((validated["medium"], validated["address"]), ("email", ALICE), "what was validated")


@CHAPTER.step
def validation_publishes_nothing(world: World) -> None:
    """validation alone publishes nothing"""
    expect_published(world, {})


@CHAPTER.step
def bind_publishes(world: World) -> None:
    """a bind through Synapse publishes: bob finds alice"""
    expect_json(bind(world, world.alice, world.validations["alice"]))
    expect_published(world, {ALICE: world.alice.user_id})


@CHAPTER.step
def used_link_says_so(world: World) -> None:
    """the link opened once more says that it was used"""
    world.browser.open(world.validations["alice"].mail.link)
    expect(world.browser.outcome(), "used", "the outcome")


@CHAPTER.step
def unbind_removes(world: World) -> None:
    """an unbind through Synapse removes the address at once"""
    request = {"medium": "email", "address": ALICE, "id_server": world.bindery.server_name}
    answer = world.synapse.api.post(f"{CLIENT}/account/3pid/unbind", request, world.alice.token)
    expect(expect_json(answer)["id_server_unbind_result"], "success", "the result")
    expect_published(world, {})


@CHAPTER.step
def two_addresses_are_bound(world: World) -> None:
    """alice binds that address again and a second one"""
    for address in (ALICE, ALICE_SECOND):
        validation = validate(world, world.alice, address, address)
        world.browser.open(validation.mail.link)
        world.browser.decide("confirm", outcome="verified")
        expect_json(bind(world, world.alice, validation))
    expect_published(world, {ALICE: world.alice.user_id, ALICE_SECOND: world.alice.user_id})


@CHAPTER.step
def deactivation_removes(world: World) -> None:
    """alice deactivates her account at Synapse: both addresses are gone"""
    path, api, alice = f"{CLIENT}/account/deactivate", world.synapse.api, world.alice
    challenge = api.post(path, {}, alice.token)
    expect(challenge.status_code, 401, "the status before the password")
    request = {
        "auth": {
            "type": "m.login.password",
            "session": challenge.json()["session"],
            "identifier": {"type": "m.id.user", "user": alice.user_id},
            "password": alice.password,
        }
    }
    answer = expect_json(api.post(path, request, alice.token))
    expect(answer["id_server_unbind_result"], "success", "the result")
    expect_published(world, {})


@CHAPTER.step
def this_was_not_me(world: World) -> None:
    """rejecting the request ends the session: it can be neither validated nor bound"""
    validation = validate(world, world.bob, BOB_STRANGER, BOB_STRANGER)
    world.browser.open(validation.mail.link)
    world.browser.decide("withdraw", outcome="withdrawn")
    refusals = {400, 403, 404}
    expect_refusal(submit(world, world.bob, validation, validation.mail.token), refusals)
    expect_refusal(validated_session(world, world.bob, validation), refusals)
    expect_refusal(bind(world, world.bob, validation), refusals)
    expect_published(world, {})


@CHAPTER.step
def guesses_end_a_session(world: World) -> None:
    """five wrong tokens end a session: the right one comes too late, and its page says expired"""
    validation = validate(world, world.bob, BOB_GUESSED, BOB_GUESSED)
    for _ in range(5):
        wrong = submit(world, world.bob, validation, secrets.token_urlsafe(32))
        expect_refusal(wrong, 400, "M_TOKEN_INCORRECT")
    right = submit(world, world.bob, validation, validation.mail.token)
    expect_refusal(right, 400, "M_SESSION_EXPIRED")
    world.browser.open(validation.mail.link)
    expect(world.browser.outcome(), "expired", "the outcome")
    world.validations["guessed"] = validation


@CHAPTER.step
def confirm_works_without_scripts(world: World) -> None:
    """the confirmation works with JavaScript disabled"""
    validation = validate(world, world.bob, BOB, BOB)
    browser = world.browser_without_scripts
    browser.open(validation.mail.link)
    expect(browser.outcome(), "ask", "the outcome")
    browser.decide("confirm", outcome="verified")
    expect_json(bind(world, world.bob, validation))
    expect_published(world, {BOB: world.bob.user_id})
    browser.look("confirm-verified-without-scripts", "en")


@CHAPTER.step
def forged_unbind_is_refused(world: World) -> None:
    """an unbind signed with a key that is not Synapse's is refused"""
    forged = SigningKey(world.synapse.signing_key.key_id, secrets.token_bytes(32))
    expect_refusal(_signed_unbind(world, forged), {401, 403})
    expect_published(world, {BOB: world.bob.user_id})


@CHAPTER.step
def signed_unbind_is_accepted(world: World) -> None:
    """the same unbind signed with Synapse's own key removes the address"""
    expect_json(_signed_unbind(world, world.synapse.signing_key))
    expect_published(world, {})


@CHAPTER.step
def people_are_sent_on(world: World) -> None:
    """after Confirm the browser goes on to where the client wanted, as the operator allows"""
    onward = f"{world.bindery.onward}client/versions"
    validation = validate(world, world.bob, BOB, BOB, next_link=onward)
    world.browser_without_scripts.open(validation.mail.link)
    world.browser_without_scripts.confirm_and_go_on(onward)
    expect_json(validated_session(world, world.bob, validation))


@CHAPTER.step
def logout_ends_a_token(world: World) -> None:
    """logout makes a token useless, and only that one"""
    api, token = world.bindery.api, exchange(world, world.bob)
    expect_json(api.post(f"{IDENTITY}/account/logout", {}, token))
    expect_refusal(api.get(f"{IDENTITY}/account", token), 401)
    expect_json(api.get(f"{IDENTITY}/account", world.bob.identity_token))


def _signed_unbind(world: World, key: SigningKey) -> requests.Response:
    """The unbind of bob's address that his homeserver would send."""
    path = f"{IDENTITY}/3pid/unbind"
    content = {"mxid": world.bob.user_id, "threepid": {"medium": "email", "address": BOB}}
    header = key.authorization(world.synapse.server_name, world.bindery.server_name, path, content)
    return world.bindery.api.post(path, content, Authorization=header)


def expect_published(world: World, wanted: dict[str, str]) -> None:
    """What bob finds when he looks up every address of the story."""
    expect(lookup_of(world, ADDRESSES), wanted, "what a lookup finds")


def lookup_of(world: World, addresses: list[str]) -> dict[str, str]:
    """What bob finds when he looks these addresses up."""
    return lookup(world.bindery.api, world.bob.identity_token, addresses)
