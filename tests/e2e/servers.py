"""Starts and stops Synapse, nginx and Bindery: on loopback, by process id, bounded in time."""

import ctypes
import getpass
import grp
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import requests

from certs import Certificates
from matrix import IDENTITY, Api, SigningKey
from steps import poll


def _loopback_addresses() -> list[str]:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return ["127.0.0.1"]
    return ["127.0.0.1", "::1"]


LOOPBACK = _loopback_addresses()


def free_ports(count: int) -> list[int]:
    """Ports that are free on every loopback address, all different."""
    ports: list[int] = []
    held: list[socket.socket] = []
    try:
        while len(ports) < count:
            first = _bind(LOOPBACK[0], 0)
            port = first.getsockname()[1]
            held.append(first)
            try:
                held.extend(_bind(address, port) for address in LOOPBACK[1:])
            except OSError:
                continue
            ports.append(port)
    finally:
        for held_socket in held:
            held_socket.close()
    return ports


def _bind(address: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound


def port_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A program that runs until it is told to stop; its output goes to a file."""

    def __init__(
        self, name: str, command: list[str], home: Path, environment: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = home / f"{name}.log"
        self._command = command
        self._home = home
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, ready: Callable[[], bool], seconds: float) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._home,
                env=os.environ | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        poll(lambda: self._alive() and ready(), seconds, f"{self.name} is up")

    def stop(self, seconds: float = 10) -> int | None:
        """Ends the process, by force after this time; its exit status, None if it did not run."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.terminate()
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait(seconds)

    def log_tail(self, lines: int = 40) -> str:
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _alive(self) -> bool:
        assert self._process is not None
        status = self._process.poll()
        if status is not None:
            raise RuntimeError(f"{self.name} ended with status {status}")
        return True


class Synapse(Server):
    """The homeserver, with sqlite and its own TLS listener."""

    def __init__(self, home: Path, port: int, certificates: Certificates, identity_server: str) -> None:
        """identity_server validates phone numbers for it."""
        home.mkdir()
        self.server_name = f"localhost:{port}"
        self.shared_secret = secrets.token_urlsafe()
        self.signing_key = SigningKey("ed25519:e2e", secrets.token_bytes(32))
        self.api = Api(self.server_name, certificates.authority)
        key_file = home / "signing.key"
        key_file.write_text(self.signing_key.file_line())
        generous = {"per_second": 1000, "burst_count": 1000}
        configuration = {
            "server_name": self.server_name,
            "public_baseurl": f"https://{self.server_name}/",
            "listeners": [
                {
                    "port": port,
                    "type": "http",
                    "tls": True,
                    "bind_addresses": LOOPBACK,
                    "resources": [{"names": ["client", "federation"]}],
                }
            ],
            "tls_certificate_path": str(certificates.certificate),
            "tls_private_key_path": str(certificates.key),
            "database": {"name": "sqlite3", "args": {"database": str(home / "homeserver.db")}},
            "signing_key_path": str(key_file),
            "media_store_path": str(home / "media"),
            "pid_file": str(home / "synapse.pid"),
            "registration_shared_secret": self.shared_secret,
            "macaroon_secret_key": secrets.token_urlsafe(),
            "form_secret": secrets.token_urlsafe(),
            "bcrypt_rounds": 4,
            "report_stats": False,
            "trusted_key_servers": [],
            "suppress_key_server_warning": True,
            # The identity server is on loopback, which Synapse would not call otherwise.
            "ip_range_blacklist": [],
            "rc_message": generous,
            "rc_registration": generous,
            "rc_login": {"address": generous, "account": generous, "failed_attempts": generous},
            "rc_3pid_validation": generous,
            "rc_invites": {"per_room": generous, "per_user": generous, "per_issuer": generous},
            "rc_joins": {"local": generous, "remote": generous},
            # A first sync is otherwise remembered for two minutes, and the story asks again at once.
            "caches": {"sync_response_cache_duration": "0s"},
            "account_threepid_delegates": {"msisdn": identity_server},
        }
        # JSON is YAML.
        configuration_file = home / "homeserver.yaml"
        configuration_file.write_text(json.dumps(configuration, indent=2))
        super().__init__(
            "synapse",
            [sys.executable, "-m", "synapse.app.homeserver", "--config-path", str(configuration_file)],
            home,
            # What OpenSSL trusts when Synapse calls an identity server: our authority alone.
            {"SSL_CERT_FILE": str(certificates.authority), "SSL_CERT_DIR": str(home)},
        )

    def run(self) -> None:
        self.start(lambda: answers(self.api, "/_matrix/client/versions"), seconds=90)


class Nginx(Server):
    """The TLS proxy in front of Bindery, as an operator sets it up."""

    def __init__(self, home: Path, port: int, upstream: int, certificates: Certificates) -> None:
        home.mkdir()
        self._port = port
        group = grp.getgrgid(os.getgid()).gr_name
        user = f"user {getpass.getuser()} {group};" if os.geteuid() == 0 else ""
        listen = "\n".join(f"        listen {_literal(address)}:{port} ssl;" for address in LOOPBACK)
        temporary = "\n".join(
            f"    {kind}_temp_path {kind}_temp;"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (home / "nginx.conf").write_text(
            f"""\
{user}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
{temporary}
    server {{
{listen}
        server_name localhost;
        ssl_certificate {certificates.certificate};
        ssl_certificate_key {certificates.key};
        client_max_body_size 1m;
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            proxy_set_header Host $host:$server_port;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"""
        )
        super().__init__(
            "nginx",
            ["nginx", "-p", str(home), "-c", "nginx.conf", "-e", "stderr"],
            home,
        )

    def run(self) -> None:
        self.start(lambda: port_open(self._port), seconds=10)


class Bindery(Server):
    """The identity server under test."""

    def __init__(
        self,
        program: Path,
        home: Path,
        port: int,
        public_port: int,
        mail_port: int,
        metrics_port: int,
        gateway: str,
        certificates: Certificates,
        onward: str,
    ) -> None:
        """onward is the beginning of the URLs that people may be sent on to; gateway takes messages."""
        home.mkdir()
        self.server_name = f"localhost:{public_port}"
        self.onward = onward
        self.api = Api(self.server_name, certificates.authority)
        self.policy = {
            language: f"https://{self.server_name}/privacy/1.0/{language}" for language in ("en", "de")
        }
        configuration = home / "bindery.toml"
        configuration.write_text(
            f"""\
server_name = "{self.server_name}"
public_base_url = "https://{self.server_name}"
data_dir = "{home / "data"}"

[http]
listen = ["127.0.0.1:{port}"]
metrics_listen = ["127.0.0.1:{metrics_port}"]

[homeservers]
extra_ca_file = "{certificates.authority}"
allowed_special_addresses = ["127.0.0.0/8", "::1/128"]

[mail]
transport = "smtp"
from = "Bindery <noreply@localhost>"

[mail.smtp]
host = "127.0.0.1"
port = {mail_port}
security = "none"

[validation]
next_link_prefixes = ["{onward}"]

# Everybody in the story has the same address.
[limits]
submit_token_per_ip = {{ burst = 100, per_hour = 200 }}
visit_per_ip = {{ burst = 100, per_hour = 100 }}

[sms]
gateway = "http"
countries = ["GB"]

[sms.http]
url = "{gateway}"
body = {{ to = "{{to}}", text = "{{text}}" }}

[delegation]
allowed_networks = ["127.0.0.0/8", "::1/128"]

[terms.privacy_policy]
version = "1.0"

[terms.privacy_policy.languages.en]
name = "Privacy policy"
url = "{self.policy["en"]}"

[terms.privacy_policy.languages.de]
name = "Datenschutzerklärung"
url = "{self.policy["de"]}"
""",
            encoding="utf-8",
        )
        self.port = port
        self.data = home / "data"
        self._program, self._configuration = program, configuration
        self._metrics = f"http://127.0.0.1:{metrics_port}/metrics"
        super().__init__("bindery", [str(program), "serve", "--config", str(configuration)], home)

    def run(self) -> None:
        self.start(lambda: port_open(self.port) and answers(self.api, IDENTITY, {}), seconds=20)

    def metrics(self) -> str:
        """What monitoring sees."""
        answer = requests.get(self._metrics, timeout=10)
        answer.raise_for_status()
        return answer.text

    def command(self, *arguments: str) -> str:
        """What a command of the operator says, which must succeed."""
        done = self.try_command(*arguments)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def try_command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What becomes of a command of the operator."""
        command = [str(self._program), *arguments, "--config", str(self._configuration)]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


def _literal(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def answers(api: Api, path: str, body: dict[str, str] | None = None) -> bool:
    try:
        answer = api.get(path)
    except requests.ConnectionError:
        return False
    return answer.status_code == 200 and body in (None, answer.json())


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant that loses its own, as Chromium's do."""
    pr_set_child_subreaper = 36
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def end_children(seconds: float = 10) -> None:
    """Kills what is still running below this process."""
    deadline = time.monotonic() + seconds
    while (children := _children()) and time.monotonic() < deadline:
        for child in children:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def _children() -> list[int]:
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # After the name, which may hold anything but ends with the last parenthesis.
            _state, parent, *_rest = stat.read_text().rpartition(")")[2].split()
            if int(parent) == os.getpid():
                children.append(int(stat.parent.name))
    return children
