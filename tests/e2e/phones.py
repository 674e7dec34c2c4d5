"""Telephone numbers: validated by the person's own client, or by Synapse on behalf of somebody."""

import secrets

import requests

from matrix import CLIENT, IDENTITY, Person, lookup
from steps import expect, expect_json, expect_refusal
from world import Chapter, World

OWN = "447400123456"
DELEGATED = "447400123457"
NUMBERS = [OWN, DELEGATED]
V1 = "/_matrix/identity/api/v1"

CHAPTER = Chapter(private=NUMBERS)


@CHAPTER.step
def a_number_is_published(world: World) -> None:
    """dave validates and publishes his number with a code: carol finds him by it"""
    dave, client_secret = world.people["dave"], secrets.token_urlsafe()
    world.secrets.add(client_secret)
    request = _wanted(client_secret, "07400 123456")
    path = f"{IDENTITY}/validate/msisdn"
    answer = world.bindery.api.post(f"{path}/requestToken", request, dave.identity_token)
    session = {"sid": expect_json(answer)["sid"], "client_secret": client_secret}
    wrong = {"token": "no-code"}
    expect_refusal(_submit(world, dave, session | wrong), 400, "M_TOKEN_INCORRECT")
    expect(_found(world), {}, "what a lookup finds")
    expect_json(_submit(world, dave, session | {"token": _code(world, OWN)}))
    expect(_found(world), {}, "what a lookup finds")
    bound = {"mxid": dave.user_id}
    expect_json(world.bindery.api.post(f"{IDENTITY}/3pid/bind", session | bound, dave.identity_token))
    expect(_found(world), {OWN: dave.user_id}, "what a lookup finds")


@CHAPTER.step
def synapse_adds_a_number(world: World) -> None:
    """erin adds a number to her Synapse account, which has it validated here: nothing is published"""
    erin, client_secret = world.people["erin"], secrets.token_urlsafe()
    world.secrets.add(client_secret)
    account = f"{CLIENT}/account/3pid"
    request = _wanted(client_secret, "07400 123457")
    asked = expect_json(world.synapse.api.post(f"{account}/msisdn/requestToken", request, erin.token))
    session = {"sid": asked["sid"], "client_secret": client_secret}
    submit_path = asked["submit_url"].removeprefix(f"https://{world.synapse.server_name}")
    code = {"token": _code(world, DELEGATED)}
    expect(expect_json(world.synapse.api.post(submit_path, session | code))["success"], True, "the code is right")
    challenge = world.synapse.api.post(f"{account}/add", session, erin.token)
    expect(challenge.status_code, 401, "the status before the password")
    proof = {
        "type": "m.login.password",
        "session": challenge.json()["session"],
        "identifier": {"type": "m.id.user", "user": erin.user_id},
        "password": erin.password,
    }
    expect_json(world.synapse.api.post(f"{account}/add", session | {"auth": proof}, erin.token))
    added = expect_json(world.synapse.api.get(account, erin.token))["threepids"]
    expect(("msisdn", DELEGATED) in [(one["medium"], one["address"]) for one in added], True, "it is added")
    expect(DELEGATED in _found(world), False, "a lookup finds it")


@CHAPTER.step
def a_failing_gateway_is_a_send_error(world: World) -> None:
    """while the gateway fails, Bindery and Synapse say so, and nothing breaks"""
    dave, erin = world.people["dave"], world.people["erin"]
    world.gateway.failing = True
    try:
        request = _wanted("while-it-fails", "07400 123458")
        own = world.bindery.api.post(
            f"{IDENTITY}/validate/msisdn/requestToken", request, dave.identity_token
        )
        expect_refusal(own, 400, "M_SEND_ERROR")
        path = f"{CLIENT}/account/3pid/msisdn/requestToken"
        delegated = world.synapse.api.post(path, request | {"client_secret": "by-synapse"}, erin.token)
        expect_refusal(delegated, 400, "M_SEND_ERROR")
    finally:
        world.gateway.failing = False


@CHAPTER.step
def the_rest_of_version_1_is_gone(world: World) -> None:
    """of version 1, only what Synapse needs is there, and only for the addresses that are named"""
    api = world.bindery.api
    for path in ("/lookup", "/bulk_lookup", "/3pid/bind", "/validate/email/requestToken", "/store-invite"):
        expect_refusal(api.post(f"{V1}{path}", {}), 404, "M_UNRECOGNIZED")
    expect_refusal(api.post(f"{V1}/validate/msisdn/requestToken", {}), 400, "M_MISSING_PARAMS")
    elsewhere = requests.post(
        f"http://127.0.0.1:{world.bindery.port}{V1}/validate/msisdn/requestToken",
        json={},
        headers={"X-Forwarded-For": "192.0.2.1"},
        timeout=10,
    )
    expect_refusal(elsewhere, 403, "M_FORBIDDEN")
    expect_json(api.get(f"{V1}/pubkey/ed25519:0"))


def _wanted(client_secret: str, number: str) -> dict[str, object]:
    return {"client_secret": client_secret, "country": "GB", "phone_number": number, "send_attempt": 1}


def _submit(world: World, person: Person, body: dict[str, str]) -> requests.Response:
    path = f"{IDENTITY}/validate/msisdn/submitToken"
    return world.bindery.api.post(path, body, person.identity_token)


def _code(world: World, number: str) -> str:
    code = world.gateway.code(f"+{number}")
    world.codes.add(code)
    return code


def _found(world: World) -> dict[str, str]:
    """What carol finds when she looks up every number of the story."""
    return lookup(world.bindery.api, world.people["carol"].identity_token, NUMBERS, "msisdn")
