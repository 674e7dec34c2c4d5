"""A real mail server on loopback that keeps every mail, and what a reader sees in one."""

import html
import re
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTPUTF8
from urllib.parse import urlsplit

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass(frozen=True)
class Mail:
    """One mail as it came over the wire."""

    recipients: list[str]
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.raw, policy=SMTPUTF8)

    def part(self, content_type: str) -> str:
        """The decoded part of this type, line ends untouched."""
        for part in self.message.walk():
            if part.get_content_type() == content_type:
                content = part.get_payload(decode=True)
                assert isinstance(content, bytes)
                return content.decode(part.get_content_charset("utf-8"))
        raise AssertionError(f"the mail has no {content_type} part")

    @property
    def asks(self) -> bool:
        """Whether it is about a validation or an invitation."""
        text = self.part("text/plain")
        return "/c/" in text or "signurl=" in text

    @property
    def link(self) -> str:
        """The link to the confirmation page, from the text part."""
        return self.find_link("/c/")

    @property
    def stop_link(self) -> str:
        """The link to the page that stops all messages, from the text part."""
        return self.find_link("/stop/")

    def find_link(self, path: str) -> str:
        """The first link with this path before its secret, from the text part."""
        found = re.search(rf"https://[\w.:\[\]-]+{path}[\w-]+", self.part("text/plain"), re.ASCII)
        assert found, f"the text part has no link to {path}"
        return found[0]

    @property
    def language(self) -> str:
        """The language that the HTML part says it is in."""
        found = re.search(r'<html lang="([a-z]+)"', self.part("text/html"))
        assert found, "the HTML part does not say its language"
        return found[1]

    @property
    def token(self) -> str:
        """The secret in the link."""
        return urlsplit(self.link).path.removeprefix("/c/")[22:]

    def check_form(self) -> None:
        """CRLF throughout; text and HTML with the same link."""
        self.check_crlf()
        if self.link not in html.unescape(self.part("text/html")):
            raise AssertionError("the HTML part lacks the link of the text part")

    def check_crlf(self) -> None:
        """CRLF throughout, also inside encoded parts."""
        if re.search(rb"(?<!\r)\n|\r(?!\n)", self.raw):
            raise AssertionError("a line of the mail does not end in CRLF")
        for content_type in ("text/plain", "text/html"):
            if re.search(r"(?<!\r)\n|\r(?!\n)", self.part(content_type)):
                raise AssertionError(f"a line of the {content_type} part does not end in CRLF")
        if self.message.get_content_type() != "multipart/alternative":
            raise AssertionError(f"the mail is {self.message.get_content_type()}")


class Mailbox:
    """The server; it runs in a thread of this process. While `failing`, it takes no mail."""

    def __init__(self, port: int) -> None:
        self.mails: list[Mail] = []
        self.failing = False
        self._controller = Controller(self, hostname="127.0.0.1", port=port, enable_SMTPUTF8=True)

    def start(self) -> None:
        self._controller.start()

    def stop(self) -> None:
        self._controller.stop()

    def to(self, address: str) -> list[Mail]:
        """Those that ask something; notices of what happened to the address come in between."""
        return [mail for mail in self.mails if mail.recipients == [address] and mail.asks]

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.failing:
            return "451 try again later"
        self.mails.append(Mail(list(envelope.rcpt_tos), envelope.original_content or b""))
        return "250 kept"
