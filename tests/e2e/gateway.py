"""A gateway for messages to phones: HTTP on loopback, it keeps every message."""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Gateway:
    """The server; it runs in a thread of this process. While `failing`, it takes no message."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/send"
        self.messages: list[dict[str, str]] = []
        self.failing = False
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not gateway.failing:
                    gateway.messages.append(json.loads(body))
                self.send_response(500 if gateway.failing else 200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *arguments: object) -> None:
                """Nothing: the run prints its steps."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True

    def start(self) -> None:
        Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def code(self, number: str) -> str:
        """The code of the latest message to this number."""
        text = [message["text"] for message in self.messages if message["to"] == number][-1]
        found = re.findall(r"(?<!\d)\d{6}(?!\d)", text)
        assert len(found) == 1, "the message has no code, or more than one"
        return str(found[0])
