"""Moving over: a real Sydent is filled through its API and stopped, and Bindery goes on in its place."""

import secrets
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from matrix import CLIENT, IDENTITY, Api, Person, decode_base64, lookup, signed_bytes
from steps import expect, expect_json, expect_refusal, poll
from world import Chapter, World, accept_terms, new_person, publish

PETRA = "petra.moves@example.org"
QUENTIN = "quentin.moves@example.org"
QUENTIN_TYPED = "Quentin.Moves@Example.org"
ROSA_GONE = "rosa.gone@example.org"
INVITED = "sven.invited@example.org"
INVITED_LINK = "tilda.invited@example.org"
ADDRESSES = [PETRA, QUENTIN, ROSA_GONE, INVITED, INVITED_LINK]
PEOPLE = ("petra", "quentin", "rosa", "sven", "tilda")

CHAPTER = Chapter(private=ADDRESSES)


@CHAPTER.step
def sydent_has_users(world: World) -> None:
    """people register at Sydent; two publish their addresses, and a third withdraws hers again"""
    for name in PEOPLE:
        person = new_person(world, name)
        person.identity_token = _exchange(world, person)
    for name in ("petra", "quentin", "rosa"):
        _accept_terms(world, world.people[name])
    _publish(world, "petra", PETRA)
    _publish(world, "quentin", QUENTIN_TYPED)
    proof, rosa = _publish(world, "rosa", ROSA_GONE), world.people["rosa"]
    expect(len(_found_at_sydent(world)), 3, "what a lookup at Sydent finds")
    # Not through Synapse: Sydent 2.6.1 cannot verify its signature with a canonicaljson of today.
    unbind = proof | {"mxid": rosa.user_id, "threepid": {"medium": "email", "address": ROSA_GONE}}
    expect_json(world.sydent.api.post(f"{IDENTITY}/3pid/unbind", unbind, rosa.identity_token))
    expect(_found_at_sydent(world), _published(world), "what a lookup at Sydent finds")


@CHAPTER.step
def sydent_has_invitations(world: World) -> None:
    """petra invites two people through Synapse and Sydent, which sends its mails"""
    for room, address in (("Old friends", INVITED), ("Older friends", INVITED_LINK)):
        request = {"name": room, "preset": "private_chat"}
        petra = world.people["petra"]
        created = expect_json(world.synapse.api.post(f"{CLIENT}/createRoom", request, petra.token))
        world.rooms[room] = created["room_id"]
        invitation = {
            "id_server": world.sydent.server_name,
            "id_access_token": petra.identity_token,
            "medium": "email",
            "address": address,
        }
        path = f"{CLIENT}/rooms/{world.rooms[room]}/invite"
        expect_json(world.synapse.api.post(path, invitation, petra.token))
        world.secrets |= {_words(world, address)["KEY"]}


@CHAPTER.step
def bindery_takes_over(world: World) -> None:
    """Sydent is stopped; a rehearsal leaves nothing behind, and the import takes everything"""
    world.sydent.pepper = _hash_details(world.sydent.api, world.people["petra"])["lookup_pepper"]
    expect(world.sydent.stop(), 0, "Sydent's exit status")
    rehearsed = _import(world, "--dry-run")
    expect("nothing was changed" in rehearsed, True, "it was a rehearsal")
    expect(world.moved.data.exists(), False, "the data directory is there")
    said = _import(world)
    expect(said, rehearsed.split("\n\n", 1)[1], "the report is that of the rehearsal")
    counts = {line.rsplit(maxsplit=1)[0]: line.rsplit(maxsplit=1)[1] for line in said.splitlines()[1:6]}
    expected = {
        "addresses published at this server": "2",
        "addresses published at its peers": "0",
        "pending invitations": "2",
        "access tokens": str(len(PEOPLE)),
        "consents": "3",
    }
    expect(counts, expected, "what was taken")
    for address in ADDRESSES:
        expect(address in said.lower(), False, "the report has an address")
    world.moved.run()


@CHAPTER.step
def lookups_answer_alike(world: World) -> None:
    """lookups with Sydent's pepper answer alike, with the access tokens of Sydent"""
    petra = world.people["petra"]
    details = _hash_details(world.moved.api, petra)
    expect(details["lookup_pepper"], world.sydent.pepper, "the pepper")
    found = lookup(world.moved.api, petra.identity_token, ADDRESSES)
    expect(found, _published(world), "what a lookup finds")


@CHAPTER.step
def terms_are_asked_for_once(world: World) -> None:
    """who accepted the terms at Sydent is not asked again; who did not is asked by Bindery, with the old token"""
    sven, api = world.people["sven"], world.moved.api
    account = expect_json(api.get(f"{IDENTITY}/account", world.people["quentin"].identity_token))
    expect(account["user_id"], world.people["quentin"].user_id, "the owner of the token")
    expect_refusal(api.get(f"{IDENTITY}/hash_details", sven.identity_token), 403, "M_TERMS_NOT_SIGNED")
    accept_terms(_moved(world), sven)
    expect(lookup(api, sven.identity_token, ADDRESSES), _published(world), "what a lookup finds")
    expect_refusal(api.get(f"{IDENTITY}/account", secrets.token_urlsafe()), 401)


@CHAPTER.step
def an_invitation_of_sydent_is_accepted(world: World) -> None:
    """sven publishes at Bindery: Synapse takes the invitation that Sydent issued, signed with Sydent's key"""
    sven, room_id = world.people["sven"], world.rooms["Old friends"]
    content = _third_party_invite(world, room_id)
    for key in content["public_keys"]:
        expect(_is_valid(world, key), True, "the key is valid")
    publish(_moved(world), sven, INVITED)
    poll(lambda: room_id in _invitations(world, sven), 30, "sven's invitation")
    signed = _invitations(world, sven)[room_id]["content"]["third_party_invite"]["signed"]
    signature = signed["signatures"][world.sydent.server_name]["ed25519:0"]
    Ed25519PublicKey.from_public_bytes(decode_base64(content["public_keys"][0]["public_key"])).verify(
        decode_base64(signature), signed_bytes(signed)
    )
    expect(signed["token"], _words(world, INVITED)["TOKEN"], "the token that is signed")
    expect_json(world.synapse.api.post(f"{CLIENT}/join/{room_id}", {}, sven.token))


@CHAPTER.step
def the_mail_of_sydent_is_enough_to_join(world: World) -> None:
    """tilda joins with the token and the key from the mail that Sydent sent, and publishes nothing"""
    tilda, room_id = world.people["tilda"], world.rooms["Older friends"]
    words = _words(world, INVITED_LINK)
    seed = decode_base64(words["KEY"])
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    keys = [decode_base64(key["public_key"]) for key in _third_party_invite(world, room_id)["public_keys"]]
    expect(keys[1], public, "the key in the mail is the invitation's")
    sign = (
        f"https://{world.moved.server_name}/_matrix/identity/api/v1/sign-ed25519"
        f"?token={words['TOKEN']}&private_key={words['KEY']}"
    )
    joined = world.javascript.run(
        "join.mjs",
        {
            "baseUrl": f"https://{world.synapse.server_name}",
            "userId": tilda.user_id,
            "accessToken": tilda.token,
            "roomId": room_id,
            "signUrl": sign,
        },
    )
    expect(joined, {"roomId": room_id}, "what the client says")


@CHAPTER.step
def a_second_import_changes_nothing(world: World) -> None:
    """a second import is refused while Bindery runs, and changes nothing afterwards"""
    refused = world.moved.try_command("import", *_files(world))
    expect(refused.returncode, 1, "the exit status")
    expect("is in use by process" in refused.stderr, True, "it says who uses the directory")
    expect(world.moved.stop(), 0, "Bindery's exit status")
    said = world.moved.command("import", *_files(world))
    expect("nothing was changed" in said, True, "what the command says")
    world.moved.run()
    found = lookup(world.moved.api, world.people["petra"].identity_token, ADDRESSES)
    expect(found, _published(world) | {INVITED: world.people["sven"].user_id}, "what a lookup finds")


@CHAPTER.step
def the_log_of_the_move_tells_nothing(world: World) -> None:
    """the log of the Bindery that took over has no address and no token"""
    log = world.moved.log.read_text(errors="replace").lower()
    words = world.secrets | {address.split("@")[0] for address in ADDRESSES}
    expect(sorted(word for word in words if word.lower() in log), [], "in the log")


def _moved(world: World) -> World:
    """The world in which the Bindery that took over is the identity server."""
    return replace(world, bindery=world.moved)


def _files(world: World) -> list[str]:
    sydent = world.sydent
    return ["sydent", "--database", str(sydent.database), "--sydent-config", str(sydent.configuration)]


def _import(world: World, *more: str) -> str:
    return world.moved.command("import", *_files(world), *more)


def _published(world: World) -> dict[str, str]:
    return {PETRA: world.people["petra"].user_id, QUENTIN: world.people["quentin"].user_id}


def _exchange(world: World, person: Person) -> str:
    path = f"{CLIENT}/user/{person.user_id}/openid/request_token"
    openid = expect_json(world.synapse.api.post(path, {}, person.token))
    token: str = expect_json(world.sydent.api.post(f"{IDENTITY}/account/register", openid))["token"]
    world.secrets |= {openid["access_token"], token}
    return token


def _accept_terms(world: World, person: Person) -> None:
    accepted = {"user_accepts": [world.moved.policy["en"]]}
    expect_json(world.sydent.api.post(f"{IDENTITY}/terms", accepted, person.identity_token))


def _publish(world: World, name: str, typed: str) -> dict[str, str]:
    """This person has an address published at Sydent; what proves to it that the address is theirs."""
    person, api, client_secret = world.people[name], world.sydent.api, secrets.token_hex()
    request = {"client_secret": client_secret, "email": typed, "send_attempt": 1}
    path = f"{IDENTITY}/validate/email"
    sid = expect_json(api.post(f"{path}/requestToken", request, person.identity_token))["sid"]
    proof = {"sid": sid, "client_secret": client_secret}
    submitted = proof | {"token": _words(world, typed)["CODE"]}
    expect_json(api.post(f"{path}/submitToken", submitted, person.identity_token))
    bind = proof | {"id_server": world.sydent.server_name, "id_access_token": person.identity_token}
    expect_json(world.synapse.api.post(f"{CLIENT}/account/3pid/bind", bind, person.token))
    return proof


def _words(world: World, address: str) -> dict[str, str]:
    """What the last mail of Sydent to an address says, by the names of `sydent.TEMPLATES`."""
    mails = [mail for mail in world.mailbox.mails if mail.recipients == [address]]
    mails = [mail for mail in mails if not mail.message.is_multipart()]
    return dict(line.split(" ", 1) for line in mails[-1].part("text/plain").splitlines() if " " in line)


def _hash_details(api: Api, person: Person) -> dict[str, Any]:
    details: dict[str, Any] = expect_json(api.get(f"{IDENTITY}/hash_details", person.identity_token))
    return details


def _found_at_sydent(world: World) -> dict[str, str]:
    return lookup(world.sydent.api, world.people["petra"].identity_token, ADDRESSES)


def _third_party_invite(world: World, room_id: str) -> dict[str, Any]:
    path, token = f"{CLIENT}/rooms/{room_id}/state", world.people["petra"].token
    state = expect_json(world.synapse.api.get(path, token))
    content: dict[str, Any] = next(
        event["content"] for event in state if event["type"] == "m.room.third_party_invite"
    )
    return content


def _is_valid(world: World, key: dict[str, str]) -> bool:
    """Asks where Sydent said that it has to be asked."""
    base = f"https://{world.moved.server_name}"
    expect(key["key_validity_url"].startswith(base), True, "the URL leads here")
    path = key["key_validity_url"].removeprefix(base)
    valid: bool = expect_json(world.moved.api.get(path, public_key=key["public_key"]))["valid"]
    return valid


def _invitations(world: World, person: Person) -> dict[str, dict[str, Any]]:
    """The events by which this person is invited, by room."""
    rooms = expect_json(world.synapse.api.get(f"{CLIENT}/sync", person.token)).get("rooms", {})
    return {
        room_id: next(
            event
            for event in room["invite_state"]["events"]
            if event["type"] == "m.room.member" and event["state_key"] == person.user_id
        )
        for room_id, room in rooms.get("invite", {}).items()
    }
