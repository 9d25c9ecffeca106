"""An ADS1115, an SHT3x and EZO circuits, as their datasheets say."""

from __future__ import annotations

from collections.abc import Sequence

from tests.drivers.i2c_bus import Chip, Registers, Silence, clamped


class Ads1115Chip(Registers):
    """`volts` is what the four pins have against ground; `slow` is its oscillator's error."""

    FULL_SCALES_V = (6.144, 4.096, 2.048, 1.024, 0.512, 0.256, 0.256, 0.256)
    RATES_HZ = (8, 16, 32, 64, 128, 250, 475, 860)
    PAIRS = ((0, 1), (0, 3), (1, 3), (2, 3))

    def __init__(self, volts: Sequence[float] = (0.5, 1.0, 1.5, 2.0), slow: float = 1.1) -> None:
        super().__init__()
        self.volts = list(volts)
        self.slow = slow
        self.ready_s = 0.0

    def power_up(self) -> None:
        self.registers = {0: 0, 1: 0x8583, 2: 0x8000, 3: 0x7FFF}
        self.ready_s = 0.0

    def store(self, register: int, value: int) -> None:
        if register == 0:
            return
        self.registers[register] = value & 0x7FFF if register == 1 else value
        if register == 1 and value & 0x8000:
            self.ready_s = self.now_s + self.slow / self.RATES_HZ[value >> 5 & 7]
            self.registers[0] = 0x7E57  # nobody may take what is not ready

    def load(self, register: int) -> int:
        register &= 3
        config = self.registers[1]
        if self.now_s < self.ready_s or register > 1:
            return super().load(register)
        if register == 1:
            return config | 0x8000
        return clamped(self._volts(config) / self.FULL_SCALES_V[config >> 9 & 7] * 32768, 16)

    def _volts(self, config: int) -> float:
        mux = config >> 12 & 7
        if mux >= 4:
            return self.volts[mux - 4]
        one, other = self.PAIRS[mux]
        return self.volts[one] - self.volts[other]


def sensirion_crc(data: bytes) -> int:
    """By long division of the message with its start value, as the datasheet's polynomial x8 + x5 + x4 + 1 says."""
    message = (int.from_bytes(data, "big") << 8) ^ (0xFF << 8 * len(data))
    for bit in range(8 * len(data) + 7, 7, -1):
        if message >> bit & 1:
            message ^= 0x131 << (bit - 8)
    return message


class Sht3xChip(Chip):
    """`bad` disturbs so many of the next answers; `periodic` is what another program left behind."""

    DURATIONS_S = {b"\x24\x00": 0.0155, b"\x24\x0b": 0.0065, b"\x24\x16": 0.0045}  # noqa: RUF012

    def __init__(self, temperature_c: float = 25.0, humidity: float = 60.0) -> None:
        self.temperature_c = temperature_c
        self.humidity = humidity
        self.bad = 0
        self.deaf = 0
        self.periodic = False
        self.heater = False
        self.resets = 0
        self._answer: tuple[float, bytes] | None = None

    def power_up(self) -> None:
        self._answer = None
        self.periodic = self.heater = False

    def write(self, data: bytes) -> None:
        if self.deaf:
            self.deaf -= 1
            raise Silence
        if self.periodic and data != b"\x30\x93":
            raise Silence
        if data == b"\x30\x93":
            self.periodic = False
        elif data == b"\x30\xa2":
            self.resets += 1
            self.power_up()
        elif data == b"\x30\x66":
            self.heater = False
        elif data == b"\xf3\x2d":
            self._answer = (self.now_s, self._with_crc(0x8010))
        elif data in self.DURATIONS_S:
            warm = 5.0 if self.heater else 0.0
            share = (self.temperature_c + warm + 45) / 175
            words = self._with_crc(round(share * 65535)) + self._with_crc(round(self.humidity / 100 * 65535))
            self._answer = (self.now_s + self.DURATIONS_S[data], words)
        else:
            raise Silence

    def read(self, length: int) -> bytes:
        if self._answer is None or self.now_s < self._answer[0]:
            raise Silence
        answer, self._answer = self._answer[1], None
        if self.bad:
            self.bad -= 1
            answer = bytes([answer[0] ^ 0x04]) + answer[1:]
        return answer[:length].ljust(length, b"\xff")

    def _with_crc(self, value: int) -> bytes:
        data = value.to_bytes(2, "big")
        return data + bytes([sensirion_crc(data)])


class EzoChip(Chip):
    """A circuit; `reading` is what `R` answers (of EC: by output), `old` a firmware without `RT`.

    slow_s   it takes so much longer than its datasheet says
    """

    DELAYS_S = {"pH": 0.9, "ORP": 0.9, "EC": 0.6, "RTD": 0.6}  # noqa: RUF012  # a table of the class

    def __init__(self, what: str, reading: str | dict[str, str], *, old: bool = False) -> None:
        self.what = what
        self.reading = reading
        self.old = old
        self.slow_s = 0.0
        self.scale = "c"
        self.status = "?Status,P,5.038"
        self.outputs = ["EC"]
        self.locked = False
        self.temperature_c = 25.0
        self.used_c: list[float] = []
        self.heard: list[str] = []
        self._answer: tuple[float, int, str] | None = None

    def power_up(self) -> None:
        self._answer = None
        self.temperature_c = 25.0

    def write(self, data: bytes) -> None:
        command = data.decode("ascii")
        self.heard.append(command)
        name = command.partition(",")[0].upper()
        delay_s = {"R": self.DELAYS_S[self.what], "RT": 0.9}.get(name, 0.3)
        text = self._do(name, command)
        self._answer = (self.now_s + delay_s + self.slow_s, 2 if text is None else 1, text or "")

    def read(self, length: int) -> bytes:
        if self._answer is None:
            return bytes([255]).ljust(length, b"\0")
        ready_s, code, text = self._answer
        if self.now_s < ready_s - 1e-9:
            return bytes([254]).ljust(length, b"\0")
        self._answer = None
        return (bytes([code]) + text.encode("utf-8"))[: length - 1].ljust(length, b"\0")

    def _do(self, name: str, command: str) -> str | None:
        assert name not in ("CAL", "FACTORY", "IMPORT", "PLOCK"), "nobody may touch the calibration"
        compensated = self.what in ("pH", "EC")
        if name in ("T", "RT") and compensated and not (name == "RT" and self.old):
            self.temperature_c = float(command.partition(",")[2])
            return self._measured() if name == "RT" else ""
        if name == "R":
            return self._measured()
        if name in ("I", "STATUS"):
            return f"?I,{self.what},2.13" if name == "I" else self.status
        if self.what == "RTD" and command == "S,?":
            return f"?S,{self.scale}"
        if self.what == "EC" and name == "O":
            return self._output(command)
        return None

    def _measured(self) -> str:
        self.used_c.append(self.temperature_c)
        if isinstance(self.reading, str):
            return self.reading
        return ",".join(self.reading[name] for name in self.outputs)

    def _output(self, command: str) -> str:
        if command == "O,?":
            return ",".join(["?O", *self.outputs])
        _, name, on = command.split(",")
        names = [*self.outputs, name] if on == "1" else [one for one in self.outputs if one != name]
        if not self.locked:
            self.outputs = [one for one in ("EC", "TDS", "S", "SG") if one in names]
        return ""
