"""What a Matrix client sends: to the homeserver, to the identity server, and signed by hand."""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

IDENTITY = "/_matrix/identity/v2"
CLIENT = "/_matrix/client/v3"


class Api:
    """HTTP with a deadline, one trusted authority and nothing from the environment."""

    def __init__(self, server_name: str, authority: Path) -> None:
        self.server_name = server_name
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(authority)

    def get(self, path: str, token: str | None = None, **parameters: str) -> requests.Response:
        return self._send("GET", path, token, params=parameters)

    def post(
        self, path: str, body: dict[str, Any], token: str | None = None, **headers: str
    ) -> requests.Response:
        return self._send("POST", path, token, json=body, headers=headers)

    def form(self, path: str, values: dict[str, str]) -> requests.Response:
        return self._send("POST", path, None, data=values)

    def delete(self, path: str, token: str) -> requests.Response:
        return self._send("DELETE", path, token)

    def _send(
        self, method: str, path: str, token: str | None, headers: dict[str, str] | None = None, **content: Any
    ) -> requests.Response:
        headers = dict(headers or {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return self._session.request(
            method,
            f"https://{self.server_name}{path}",
            headers=headers,
            timeout=30,
            allow_redirects=False,
            **content,
        )


@dataclass
class Person:
    """A user of the homeserver; `identity_token` once the identity server knows them."""

    user_id: str
    password: str
    token: str
    identity_token: str = ""


def register(homeserver: Api, shared_secret: str, name: str, password: str) -> Person:
    """Makes an account through Synapse's shared-secret registration."""
    path = "/_synapse/admin/v1/register"
    nonce = homeserver.get(path).json()["nonce"]
    signed = "\0".join((nonce, name, password, "notadmin"))
    answer = homeserver.post(
        path,
        {
            "nonce": nonce,
            "username": name,
            "password": password,
            "admin": False,
            "mac": hmac.new(shared_secret.encode(), signed.encode(), hashlib.sha1).hexdigest(),
        },
    )
    answer.raise_for_status()
    return Person(answer.json()["user_id"], password, answer.json()["access_token"])


def lookup(identity: Api, token: str, addresses: list[str], medium: str = "email") -> dict[str, str]:
    """The Matrix user ids of those addresses that have one, asked for as hashes."""
    details = identity.get(f"{IDENTITY}/hash_details", token)
    details.raise_for_status()
    pepper = details.json()["lookup_pepper"]
    assert "sha256" in details.json()["algorithms"]
    hashes = {
        _base64(hashlib.sha256(f"{a} {medium} {pepper}".encode()).digest(), url=True): a for a in addresses
    }
    answer = identity.post(
        f"{IDENTITY}/lookup",
        {"algorithm": "sha256", "pepper": pepper, "addresses": list(hashes)},
        token,
    )
    answer.raise_for_status()
    return {hashes[found]: user_id for found, user_id in answer.json()["mappings"].items()}


@dataclass(frozen=True)
class SigningKey:
    """An ed25519 key as a homeserver has it."""

    key_id: str
    seed: bytes

    def file_line(self) -> str:
        """The content of Synapse's signing key file."""
        algorithm, version = self.key_id.split(":")
        return f"{algorithm} {version} {_base64(self.seed)}\n"

    def authorization(self, origin: str, destination: str, path: str, content: dict[str, Any]) -> str:
        """The X-Matrix header for a POST of this content."""
        request = {
            "method": "POST",
            "uri": path,
            "origin": origin,
            "destination": destination,
            "content": content,
        }
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(signed_bytes(request))
        return (
            f'X-Matrix origin="{origin}",destination="{destination}",'
            f'key="{self.key_id}",sig="{_base64(signature)}"'
        )


def signed_bytes(signed: dict[str, Any]) -> bytes:
    """What a signature of a JSON object is made over."""
    content = {name: value for name, value in signed.items() if name not in ("signatures", "unsigned")}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode_base64(text: str) -> bytes:
    """The bytes of unpadded base64, in either alphabet."""
    text = text.rstrip("=").translate(str.maketrans("+/", "-_"))
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _base64(data: bytes, url: bool = False) -> str:
    encode = base64.urlsafe_b64encode if url else base64.b64encode
    return encode(data).decode().rstrip("=")
