"""A Kasa whose newer firmware wants a login: KLAP over HTTP, and who it is over UDP.

The cryptography is of our own making, after the description in python-kasa's transport: SHA-256 over seeds and a hash
of the login for the two handshakes, AES-CBC with a counted vector for each request.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from tests.drivers.kasa_models import FakeKasa, kasa, plain, scrambled


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def md5(data: bytes) -> bytes:
    return hashlib.md5(data).digest()


class Session:
    """What both sides know after the handshakes."""

    def __init__(self, local: bytes, remote: bytes, login: bytes) -> None:
        secret = local + remote + login
        self.key = sha(b"lsk", secret)[:16]
        self.vector = sha(b"iv", secret)[:12]
        self.signature = sha(b"ldk", secret)[:28]

    def cipher(self, number: int) -> Cipher[modes.CBC]:
        return Cipher(algorithms.AES(self.key), modes.CBC(self.vector + struct.pack(">l", number)))

    def opened(self, number: int, body: bytes) -> bytes:
        signed, sealed = body[:32], body[32:]
        assert signed == sha(self.signature, struct.pack(">l", number), sealed)
        turn = self.cipher(number).decryptor()
        padded, whole = turn.update(sealed) + turn.finalize(), PKCS7(128).unpadder()
        return whole.update(padded) + whole.finalize()

    def sealed(self, number: int, text: bytes) -> bytes:
        pad = PKCS7(128).padder()
        turn = self.cipher(number).encryptor()
        sealed = turn.update(pad.update(text) + pad.finalize()) + turn.finalize()
        return sha(self.signature, struct.pack(">l", number), sealed) + sealed


class Door:
    """The HTTP and UDP side of a FakeKasa; seeds are those of its only guest."""

    def __init__(self, fake: FakeKasa, username: str, password: str) -> None:
        self.fake = fake
        self.login = md5(md5(username.encode()) + md5(password.encode()))
        self.local = self.remote = b""
        self.session: Session | None = None
        door = self

        class Http(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = door.answer(self.path, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.send_header("Set-Cookie", "TP_SESSIONID=A1B2;TIMEOUT=86400")
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request[1].sendto(bytes(16) + json.dumps(door.who()).encode(), self.client_address)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Http)
        self.http.daemon_threads = True
        self.air = socketserver.UDPServer(("127.0.0.1", 0), Datagram)
        for server in (self.http, self.air):
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        for server in (self.http, self.air):
            server.shutdown()
            server.server_close()

    def who(self) -> dict[str, Any]:
        scheme = {"is_support_https": False, "encrypt_type": "KLAP", "http_port": self.http.server_address[1]}
        result = {
            "device_type": "IOT.SMARTPLUGSWITCH", "device_model": self.fake.model, "device_id": "0" * 32,
            "ip": "127.0.0.1", "mac": "B0-4E-26-00-00-01", "mgt_encrypt_schm": scheme,
        }  # fmt: skip
        return {"result": result, "error_code": 0}

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        url = urlsplit(path)
        if url.path == "/app/handshake1":
            self.local, self.remote = body, secrets.token_bytes(16)
            return 200, self.remote + sha(self.local, self.login)
        if url.path == "/app/handshake2":
            if body != sha(self.remote, self.login):
                return 403, b""
            self.session = Session(self.local, self.remote, self.login)
            return 200, b""
        if self.session is None:
            return 403, b""
        number = int(parse_qs(url.query)["seq"][0])
        said = self.fake._answer(scrambled(self.session.opened(number, body)))
        return 200, self.session.sealed(number, plain(said or b""))


@contextmanager
def kasa_with_login(username: str, password: str) -> Iterator[FakeKasa]:
    """python-kasa asks fixed UDP ports; here it asks a free one."""
    with kasa() as fake:
        door = Door(fake, username, password)
        fake.unplug()  # the old protocol is gone
        try:
            with patch("kasa.Discover.DISCOVERY_PORT_2", door.air.server_address[1]):
                yield fake
        finally:
            door.close()
