"""Invitations: carol invites people by their addresses, through Synapse, and they join."""

from urllib.parse import parse_qs, unquote, urlsplit

from mail import Mail
from matrix import CLIENT, IDENTITY, Person
from steps import expect, expect_json, expect_named, expect_refusal, poll
from story import lookup_of
from world import Chapter, World, newcomer, publish, submit, validate

DAVE = "dave.invited@example.org"
ERIN = "erin.invited@example.org"
FRANK = "frank.invited@example.org"
GRACE = "grace.invited@example.org"
HEIDI = "heidi.invited@example.org"
LAST = "dave.last@example.org"
ADDRESSES = [DAVE, ERIN, FRANK, GRACE, HEIDI, LAST]

CHAPTER = Chapter(private=ADDRESSES)


@CHAPTER.step
def more_people(world: World) -> None:
    """carol, dave, erin and frank have accounts at Synapse and at Bindery"""
    for name in ("carol", "dave", "erin", "frank"):
        newcomer(world, name)


@CHAPTER.step
def an_address_is_invited(world: World) -> None:
    """carol invites dave's address through Synapse: the mail names her and the room, and no more"""
    room_id = _create_room(world, "Tea & cake")
    _invite(world, room_id, DAVE)
    mail = _mail_to(world, DAVE)
    carol = world.people["carol"].user_id
    text = mail.part("text/plain")
    expect_named(carol, text, "the mail names her")
    for part in ("Tea & cake", "https://app.element.io/#/room/"):
        expect(part in text, True, f"the mail has {part}")
    mail.check_crlf()
    content = _third_party_invite(world, room_id)
    expect(content["display_name"], "d...@e...", "what the room sees of the address")
    for key in content["public_keys"]:
        expect(_is_valid(world, key), True, "the key is valid")
    expect(len(content["public_keys"]), 2, "the keys")


@CHAPTER.step
def publishing_brings_the_invitation(world: World) -> None:
    """dave publishes his address: the invitation is in his sync, he joins, the room has both"""
    dave, room_id = world.people["dave"], world.rooms["Tea & cake"]
    before = _delivered(world)
    publish(world, dave, DAVE)
    poll(lambda: room_id in _sync(world, dave).get("invite", {}), 30, "dave's invitation")
    expect_json(world.synapse.api.post(f"{CLIENT}/join/{room_id}", {}, dave.token))
    expect(_joined(world, room_id), {world.people["carol"].user_id, dave.user_id}, "who is in the room")
    poll(lambda: _delivered(world) == before + 1, 10, "the homeserver's word is written down")
    expect(_is_valid(world, _third_party_invite(world, room_id)["public_keys"][1]), False, "the key is valid")


@CHAPTER.step
def nothing_is_lost_while_the_homeserver_is_away(world: World) -> None:
    """the same with Synapse stopped during the bind, and Bindery restarted before it is back"""
    erin = world.people["erin"]
    room_id = _create_room(world, "Reading circle")
    _invite(world, room_id, ERIN)
    _mail_to(world, ERIN)
    validation = validate(world, erin, ERIN, ERIN)
    expect_json(submit(world, erin, validation, validation.mail.token))
    expect(world.synapse.stop(30), 0, "Synapse's exit status")
    proof = validation.proof | {"mxid": erin.user_id}
    expect_json(world.bindery.api.post(f"{IDENTITY}/3pid/bind", proof, erin.identity_token))
    poll(lambda: _outbox(world, "waiting") > 0, 30, "the first try has failed")
    expect(world.bindery.stop(), 0, "Bindery's exit status")
    world.bindery.run()
    world.synapse.run()
    poll(lambda: room_id in _sync(world, erin).get("invite", {}), 90, "erin's invitation")
    poll(lambda: _delivered(world) == 1, 10, "the homeserver's word is written down")
    expect_json(world.synapse.api.post(f"{CLIENT}/join/{room_id}", {}, erin.token))
    expect(_joined(world, room_id), {world.people["carol"].user_id, erin.user_id}, "who is in the room")
    invited = [event for event in _members(world, room_id, erin) if event["content"]["membership"] == "invite"]
    expect(len(invited), 1, "invitations of erin in the room's history")


@CHAPTER.step
def the_mail_is_enough_to_join(world: World) -> None:
    """matrix-js-sdk joins from the mail's sign URL, with another address and no token for Bindery"""
    frank, room_id = world.people["frank"], _create_room(world, "Choir")
    _invite(world, room_id, FRANK)
    link = _link(_mail_to(world, FRANK))
    room, _, query = link.fragment.removeprefix("/room/").partition("?")
    expect(unquote(room), room_id, "the room in the link")
    parameters = {name: values[0] for name, values in parse_qs(query).items()}
    expect(parameters["email"], FRANK, "the address in the link")
    expect(parameters["room_name"], "Choir", "the room's name in the link")
    world.secrets |= {parse_qs(urlsplit(parameters["signurl"]).query)["private_key"][0]}
    joined = world.javascript.run(
        "join.mjs",
        {
            "baseUrl": f"https://{world.synapse.server_name}",
            "userId": frank.user_id,
            "accessToken": frank.token,
            "roomId": room_id,
            "signUrl": parameters["signurl"],
        },
    )
    expect(joined, {"roomId": room_id}, "what the client says")
    expect(_joined(world, room_id), {world.people["carol"].user_id, frank.user_id}, "who is in the room")
    expect(lookup_of(world, [FRANK]), {}, "what a lookup finds")


@CHAPTER.step
def invitations_are_cancelled(world: World) -> None:
    """carol takes one invitation back and the operator another: publishing brings neither"""
    carol, dave = world.people["carol"], world.people["dave"]
    rooms = {address: _create_room(world, f"Room of {address[:5]}") for address in (GRACE, HEIDI)}
    for address, room_id in rooms.items():
        _invite(world, room_id, address)
        _mail_to(world, address)
    token = _third_party_event(world, rooms[GRACE])["state_key"]
    path = f"/_bindery/v1/invitations/{token}"
    expect_refusal(world.bindery.api.delete(path, dave.identity_token), 404, "M_NOT_FOUND")
    expect_json(world.bindery.api.delete(path, carol.identity_token))
    said = world.bindery.command("invitations", "cancel", "--address", HEIDI)
    expect(said, "One invitation was cancelled.\n", "what the command says")
    before = _delivered(world)
    for address, room_id in rooms.items():
        key = _third_party_invite(world, room_id)["public_keys"][1]
        expect(_is_valid(world, key), False, "the key is valid")
        publish(world, dave, address)
    last = _create_room(world, "The last one")
    _invite(world, last, LAST)
    _mail_to(world, LAST)
    publish(world, dave, LAST)
    poll(lambda: last in _sync(world, dave).get("invite", {}), 30, "dave's last invitation")
    expect(set(_sync(world, dave).get("invite", {})), {last}, "dave's invitations")
    poll(lambda: _delivered(world) == before + 1, 10, "the homeserver's word is written down")


def _create_room(world: World, name: str) -> str:
    request = {"name": name, "preset": "private_chat"}
    answer = world.synapse.api.post(f"{CLIENT}/createRoom", request, world.people["carol"].token)
    world.rooms[name] = expect_json(answer)["room_id"]
    return world.rooms[name]


def _invite(world: World, room_id: str, address: str) -> None:
    carol = world.people["carol"]
    request = {
        "id_server": world.bindery.server_name,
        "id_access_token": carol.identity_token,
        "medium": "email",
        "address": address,
    }
    expect_json(world.synapse.api.post(f"{CLIENT}/rooms/{room_id}/invite", request, carol.token))


def _mail_to(world: World, address: str) -> Mail:
    """The one mail to an address that nobody else has written to."""
    mails = poll(lambda: world.mailbox.to(address), 20, f"the mail to {address}")
    expect(len(mails), 1, "the mails")
    mail: Mail = mails[0]
    return mail


def _link(mail: Mail):
    return urlsplit(next(word for word in mail.part("text/plain").split() if "signurl=" in word))


def _third_party_event(world: World, room_id: str) -> dict:
    path = f"{CLIENT}/rooms/{room_id}/state"
    state = expect_json(world.synapse.api.get(path, world.people["carol"].token))
    return next(event for event in state if event["type"] == "m.room.third_party_invite")


def _third_party_invite(world: World, room_id: str) -> dict:
    return _third_party_event(world, room_id)["content"]


def _is_valid(world: World, key: dict) -> bool:
    """Asks where the room says that it has to be asked."""
    url = urlsplit(key["key_validity_url"])
    expect((url.scheme, url.netloc), ("https", world.bindery.server_name), "where the key is asked about")
    return expect_json(world.bindery.api.get(url.path, public_key=key["public_key"]))["valid"]


def _sync(world: World, person: Person) -> dict:
    return expect_json(world.synapse.api.get(f"{CLIENT}/sync", person.token)).get("rooms", {})


def _joined(world: World, room_id: str) -> set[str]:
    path = f"{CLIENT}/rooms/{room_id}/joined_members"
    return set(expect_json(world.synapse.api.get(path, world.people["carol"].token))["joined"])


def _members(world: World, room_id: str, person: Person) -> list[dict]:
    """What happened to somebody in a room, as its history has it."""
    path, token = f"{CLIENT}/rooms/{room_id}/messages", world.people["carol"].token
    history = expect_json(world.synapse.api.get(path, token, dir="b", limit="100"))["chunk"]
    return [
        event
        for event in history
        if event["type"] == "m.room.member" and event["state_key"] == person.user_id
    ]


def _outbox(world: World, outcome: str) -> int:
    """What became of messages to homeservers since Bindery started, as its metrics say."""
    name = f'bindery_outbox_total{{kind="onbind",outcome="{outcome}"}} '
    lines = world.bindery.metrics().splitlines()
    return sum(int(line.removeprefix(name)) for line in lines if line.startswith(name))


def _delivered(world: World) -> int:
    return _outbox(world, "delivered")
