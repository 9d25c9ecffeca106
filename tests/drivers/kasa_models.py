"""A Kasa device behind its old protocol: TCP and UDP on one port, JSON under a rolling XOR.

What it answers has the shape of recordings of an HS110, an HS103 (no meter) and an HS300 (six sockets).
"""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from unittest.mock import patch

from drivers.kasa_link import KasaAddress, KasaLink

KEY: Final = 171
MODELS: Final[dict[str, tuple[str, str, int]]] = {
    "HS110(EU)": ("Smart Wi-Fi Plug With Energy Monitoring", "TIM:ENE", 0),
    "HS103(US)": ("Smart Wi-Fi Plug Mini", "TIM", 0),
    "HS300(US)": ("Wi-Fi Smart Power Strip", "TIM:ENE", 6),
}
NOT_SUPPORTED: Final = {"err_code": -1, "err_msg": "module not support"}
NO_MEMBER: Final = {"err_code": -2, "err_msg": "member not support"}


def scrambled(plain: bytes) -> bytes:
    key, out = KEY, bytearray()
    for byte in plain:
        key ^= byte
        out.append(key)
    return bytes(out)


def plain(scrambled: bytes) -> bytes:
    return bytes(byte ^ key for byte, key in zip(scrambled, bytes([KEY]) + scrambled, strict=False))


@dataclass
class Socket:
    """One of its relays, with its only countdown."""

    on: bool = False
    rule: dict[str, Any] | None = None
    seen: list[float] = field(default_factory=list)

    def turn(self, on: bool) -> None:
        if on != self.on:
            self.on = on
            self.seen.append(float(on))


class FakeKasa:
    """mood  "well", "slow" (no answer until it is well) or "garbage"."""

    def __init__(self, model: str = "HS110(EU)") -> None:
        self.model = model
        self.sockets = [Socket() for _ in range(MODELS[model][2] or 1)]
        self.realtime: dict[str, Any] = {
            "current_ma": 1305, "err_code": 0, "power_mw": 298_500, "total_wh": 12_345, "voltage_mv": 230_211,
        }  # fmt: skip
        self.schedules: list[dict[str, Any]] = []
        self.mood = "well"
        self.heard: list[dict[str, Any]] = []
        self.rules_made = 0
        self.port = 0
        self._well = threading.Event()
        self._open: set[socket.socket] = set()
        self._server: socketserver.ThreadingTCPServer | None = None
        self._air: socketserver.UDPServer | None = None
        self.plug()

    @property
    def on(self) -> bool:
        return self.sockets[0].on

    # ---------------------------------------------------------------------------------------- its life

    def plug(self) -> None:
        fake = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                fake._open.add(self.request)
                with suppress(OSError, struct.error):
                    while head := self.request.recv(4, socket.MSG_WAITALL):
                        asked = self.request.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL)
                        if (answer := fake._answer(asked)) is not None:
                            self.request.sendall(struct.pack(">I", len(answer)) + answer)

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                asked, air = self.request
                if (answer := fake._answer(asked)) is not None:
                    air.sendto(answer, self.client_address)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", self.port), Connection)
        self.port = self._server.server_address[1]
        self._air = socketserver.UDPServer(("127.0.0.1", self.port), Datagram)
        for server in (self._server, self._air):
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def unplug(self) -> None:
        """Gone from the network; the load stays as it is and the countdown goes on."""
        servers, self._server, self._air = (self._server, self._air), None, None
        self._well.set()
        for server in servers:
            if server is not None:
                server.shutdown()
                server.server_close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def heal(self) -> None:
        self.mood = "well"
        self._well.set()

    def pass_s(self, seconds: float) -> None:
        for one in self.sockets:
            rule = one.rule
            if rule and rule["enable"]:
                rule["remain"] -= seconds
                if rule["remain"] <= 0:
                    rule["enable"] = rule["remain"] = 0
                    one.turn(bool(rule["act"]))

    # ------------------------------------------------------------------------------------- what it says

    def _answer(self, raw: bytes) -> bytes | None:
        if self.mood == "slow":
            self._well.wait(60)
            return None
        if self.mood == "garbage":
            return b"<html>a router's login</html>"
        asked = json.loads(plain(raw))
        self.heard.append(asked)
        ids = asked.pop("context", {}).get("child_ids", [])
        meant = [one for number, one in enumerate(self.sockets) if not ids or self._id(number) in ids]
        said = {module: self._module(module, methods, meant) for module, methods in asked.items()}
        return scrambled(json.dumps(said).encode())

    def _module(self, module: str, methods: dict[str, Any], meant: list[Socket]) -> dict[str, Any]:
        has_meter = "ENE" in MODELS[self.model][1]
        known = {"system", "count_down", "schedule", "anti_theft", "time", "cnCloud"} | (
            {"emeter"} if has_meter else set()
        )
        if module not in known:
            return NOT_SUPPORTED
        return {
            method: getattr(self, f"_{module}_{method}", lambda *_: NO_MEMBER)(arguments or {}, meant)
            for method, arguments in methods.items()
        }

    def _system_get_sysinfo(self, _arguments: dict[str, Any], _meant: list[Socket]) -> dict[str, Any]:
        name, feature, children = MODELS[self.model]
        info = {
            "alias": "Return pump", "dev_name": name, "deviceId": "8006E0" + "0" * 34, "err_code": 0,
            "feature": feature,
            "hwId": "0" * 32, "hw_ver": "4.0", "latitude_i": 0, "led_off": 0, "longitude_i": 0,
            "mac": "B0:4E:26:00:00:01", "mic_type": "IOT.SMARTPLUGSWITCH", "model": self.model, "oemId": "0" * 32,
            "rssi": -61, "sw_ver": "1.0.4 Build 191111 Rel.143903", "updating": 0,
        }  # fmt: skip
        if not children:
            return info | {
                "relay_state": int(self.on),
                "on_time": int(self.on) * 60,
                "next_action": {"type": -1},
            }
        listed = [
            {"id": self._id(number), "alias": f"Plug {number + 1}", "state": int(one.on), "on_time": 0,
             "next_action": {"type": -1}}
            for number, one in enumerate(self.sockets)
        ]  # fmt: skip
        return info | {"child_num": children, "children": listed}

    def _id(self, number: int) -> str:
        return "8006E0" + "0" * 34 + f"{number:02d}"

    def _system_set_relay_state(self, arguments: dict[str, Any], meant: list[Socket]) -> dict[str, Any]:
        for one in meant:
            one.turn(bool(arguments["state"]))
        return {"err_code": 0}

    def _emeter_get_realtime(self, _arguments: dict[str, Any], _meant: list[Socket]) -> dict[str, Any]:
        return self.realtime

    def _emeter_get_daystat(self, _arguments: dict[str, Any], _meant: list[Socket]) -> dict[str, Any]:
        return {"day_list": [], "err_code": 0}

    def _emeter_get_monthstat(self, _arguments: dict[str, Any], _meant: list[Socket]) -> dict[str, Any]:
        return {"month_list": [], "err_code": 0}

    def _schedule_get_rules(self, _arguments: dict[str, Any], _meant: list[Socket]) -> dict[str, Any]:
        return {"rule_list": self.schedules, "version": 2, "enable": 1, "err_code": 0}

    def _anti_theft_get_rules(self, _arguments: dict[str, Any], _meant: list[Socket]) -> dict[str, Any]:
        return {"rule_list": [], "version": 2, "enable": 0, "err_code": 0}

    def _time_get_time(self, _arguments: dict[str, Any], _meant: list[Socket]) -> dict[str, Any]:
        return {"year": 2026, "month": 11, "mday": 21, "hour": 19, "min": 0, "sec": 0, "err_code": 0}

    def _time_get_timezone(self, _arguments: dict[str, Any], _meant: list[Socket]) -> dict[str, Any]:
        return {"index": 39, "err_code": 0}

    def _count_down_get_rules(self, _arguments: dict[str, Any], meant: list[Socket]) -> dict[str, Any]:
        return {"rule_list": [one.rule for one in meant if one.rule], "err_code": 0}

    def _count_down_delete_all_rules(self, _arguments: dict[str, Any], meant: list[Socket]) -> dict[str, Any]:
        for one in meant:
            one.rule = None
        return {"err_code": 0}

    def _count_down_add_rule(self, arguments: dict[str, Any], meant: list[Socket]) -> dict[str, Any]:
        (one,) = meant
        if one.rule:
            return {"err_code": -10, "err_msg": "table is full"}
        self.rules_made += 1
        one.rule = {"id": f"7C9031{self.rules_made:026d}", **arguments, "remain": arguments["delay"]}
        return {"id": one.rule["id"], "err_code": 0}

    def _count_down_edit_rule(self, arguments: dict[str, Any], meant: list[Socket]) -> dict[str, Any]:
        (one,) = meant
        if one.rule is None or one.rule["id"] != arguments["id"]:
            return {"err_code": -14, "err_msg": "entry not exist"}
        one.rule = {**arguments, "remain": arguments["delay"]}
        return {"err_code": 0}


@contextmanager
def kasa(model: str = "HS110(EU)") -> Iterator[FakeKasa]:
    fake, links, make = FakeKasa(model), list[KasaLink](), KasaLink.__init__

    def noted(link: KasaLink, address: KasaAddress) -> None:
        make(link, address)
        links.append(link)

    with patch.object(KasaLink, "__init__", noted):
        try:
            yield fake
        finally:
            for link in links:  # what a test left open
                link.close()
            fake.unplug()
