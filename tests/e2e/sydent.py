"""A real Sydent, the identity server that an operator moves over from."""

import json
from pathlib import Path

from certs import Certificates
from matrix import IDENTITY, Api
from servers import Server, answers, port_open

# The package has no templates. These have what the story reads.
TEMPLATES = {
    "verification_template.eml": "From: %(from)s\nTo: %(to)s\nSubject: Validate\n\nCODE %(token)s\n",
    "invite_template.eml": (
        "From: %(from)s\nTo: %(to)s\nSubject: %(subject_header_value)s\n\n"
        "TOKEN %(token)s\nKEY %(ephemeral_private_key)s\n"
    ),
    "verify_response_template.html": "%(message)s",
}


class Sydent(Server):
    """Sydent behind the proxy that later leads to Bindery."""

    def __init__(
        self,
        python: Path,
        home: Path,
        port: int,
        replication_port: int,
        public_port: int,
        mail_port: int,
        certificates: Certificates,
        policy: dict[str, str],
    ) -> None:
        """policy are the URLs of the one document that its users accept."""
        templates = home / "templates" / "plain"
        templates.mkdir(parents=True)
        for name, text in TEMPLATES.items():
            (templates / name).write_text(text)
        self.server_name = f"localhost:{public_port}"
        self.api = Api(self.server_name, certificates.authority)
        self.configuration = home / "sydent.conf"
        self.database = home / "sydent.db"
        languages = {language: {"name": "Policy", "url": url} for language, url in policy.items()}
        documents = {"privacy_policy": {"version": "1.0", "langs": languages}}
        # JSON is YAML.
        (home / "terms.yaml").write_text(json.dumps({"master_version": "1.0", "docs": documents}))
        self.configuration.write_text(
            f"""\
[general]
server.name = {self.server_name}
pidfile.path = {home / "sydent.pid"}
terms.path = {home / "terms.yaml"}
templates.path = {home / "templates"}
brand.default = plain
ip.whitelist = 127.0.0.0/8, ::1/128

[db]
db.file = {self.database}

[http]
clientapi.http.bind_address = 127.0.0.1
clientapi.http.port = {port}
replication.https.bind_address = 127.0.0.1
replication.https.port = {replication_port}
obey_x_forwarded_for = True
client_http_base = https://{self.server_name}

[email]
email.from = noreply@localhost
email.smtphost = 127.0.0.1
email.smtpport = {mail_port}
email.hostname = localhost
"""
        )
        # What clients hash addresses with, once the story has asked.
        self.pepper = ""
        self._port = port
        super().__init__(
            "sydent",
            [str(python), "-m", "sydent.sydent"],
            home,
            {
                "SYDENT_CONF": str(self.configuration),
                # What OpenSSL trusts when Sydent calls Synapse: our authority alone.
                "SSL_CERT_FILE": str(certificates.authority),
                "SSL_CERT_DIR": str(home),
            },
        )

    def run(self) -> None:
        self.start(lambda: port_open(self._port) and answers(self.api, f"{IDENTITY}/terms"), seconds=30)
