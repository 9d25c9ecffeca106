"""INA219, INA226 and INA228, as their datasheets say."""

from __future__ import annotations

from tests.drivers.i2c_bus import Registers, clamped


class InaChip(Registers):
    """`bus_v` at the load and `current_a` through a shunt of `ohm`; converts every `period_s`."""

    def __init__(self, bus_v: float = 12.0, current_a: float = 1.0, ohm: float = 0.1) -> None:
        super().__init__()
        self.bus_v = bus_v
        self.current_a = current_a
        self.ohm = ohm
        self.began_s = 0.0
        self.converted_s = 0.0
        self.period_s = 0.137

    def power_up(self) -> None:
        self.began_s = self.converted_s = self.now_s

    def step(self) -> None:
        if self.now_s - self.began_s >= self.period_s:
            self.began_s = self.converted_s = self.now_s
            self.convert()

    def convert(self) -> None:
        """Results into the registers."""

    @property
    def shunt_v(self) -> float:
        return self.current_a * self.ohm


class Ina219Chip(InaChip):
    def power_up(self) -> None:
        super().power_up()
        self.registers = {0: 0x399F, 1: 0, 2: 0, 3: 0, 4: 0, 5: 0}

    def store(self, register: int, value: int) -> None:
        if register == 5:
            self.registers[5] = value & 0xFFFE
        elif register == 0:
            self.registers[0] = value
            self.registers[2] &= ~2
            self.began_s = self.now_s

    def load(self, register: int) -> int:
        self.step()
        value = super().load(register)
        if register == 3:
            self.registers[2] &= ~2
        return value

    def convert(self) -> None:
        full = 4000 << (self.registers[0] >> 11 & 3)
        shunt = max(-full, min(full, round(self.shunt_v / 10e-6)))
        current = int(shunt * self.registers[5] / 4096)
        bus = round(self.bus_v / 0.004)
        power = abs(current) * bus // 5000
        overflow = int(abs(current) > 32767 or power > 65535)
        self.registers |= {1: shunt, 2: bus << 3 | 2 | overflow, 3: power, 4: current}


class Ina226Chip(InaChip):
    def __init__(self, **physics: float) -> None:
        super().__init__(**physics)
        self.period_s = 0.036

    def power_up(self) -> None:
        super().power_up()
        self.registers = {0: 0x4127, 1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0, 0xFE: 0x5449, 0xFF: 0x2260}

    def store(self, register: int, value: int) -> None:
        if register == 5:
            self.registers[5] = value & 0x7FFF
        elif register == 0:
            self.registers[0] = value
            self.registers[6] &= ~8
            self.began_s = self.now_s

    def load(self, register: int) -> int:
        self.step()
        value = super().load(register)
        if register == 6:
            self.registers[6] &= ~8
        return value

    def convert(self) -> None:
        shunt = clamped(self.shunt_v / 2.5e-6, 16)
        current = int(shunt * self.registers[5] / 2048)
        bus = round(self.bus_v / 0.00125)
        power = abs(current) * bus // 20000
        overflow = 4 if abs(current) > 32767 or power > 65535 else 0
        self.registers |= {1: shunt, 2: bus, 3: power, 4: clamped(current, 16), 6: 8 | overflow}


class Ina228Chip(InaChip):
    """Counts energy and charge for as long as the bus's time passes.

    What the datasheet leaves open: whether RSTACC takes itself back, and whether reading CNVRF clears it.
    """

    WIDTHS = {4: 3, 5: 3, 7: 3, 8: 3, 9: 5, 10: 5}  # noqa: RUF012  # a table of the class

    def __init__(self, **physics: float) -> None:
        super().__init__(**{"ohm": 0.015, **physics})
        self.period_s = 0.051
        self.energy = self.charge = 0.0
        self.reset_stays = self.ready_stays = False

    def power_up(self) -> None:
        super().power_up()
        self.registers = {0: 0, 1: 0xFB68, 2: 0x1000, 0x0B: 1, 0x3E: 0x5449, 0x3F: 0x2281}
        self.energy = self.charge = 0.0

    def store(self, register: int, value: int) -> None:
        kept = 0x7FFF if self.reset_stays else 0x3FFF
        if register == 0 and value & 0x4000:
            self.energy = self.charge = 0.0
            self.registers[0x0B] &= ~0xE00
        if register in (0, 1, 2):
            self.registers[register] = value & {0: kept, 1: 0xFFFF, 2: 0x7FFF}[register]
        if register == 1:
            self.registers[0x0B] &= ~2 if not self.ready_stays else ~0
            self.began_s = self.now_s

    def load(self, register: int) -> int:
        self.step()
        if register == 9:
            self.registers[0x0B] &= ~0x800
            return int(self.energy)
        if register == 10:
            self.registers[0x0B] &= ~0x400
            return int(self.charge)
        value = super().load(register)
        if register == 0x0B and not self.ready_stays:
            self.registers[0x0B] &= ~2
        return value

    def step(self) -> None:
        since_s = self.now_s - self.began_s
        super().step()
        if self.began_s == self.now_s:
            self._count(since_s)

    def convert(self) -> None:
        step_v = 78.125e-9 if self.registers[0] & 0x10 else 312.5e-9
        shunt = clamped(self.shunt_v / step_v, 20)
        current = int(shunt * 4096 / max(1, self.registers[2]))
        bus = clamped(self.bus_v / 195.3125e-6, 20)
        power = int(abs(current) * bus * 195.3125e-6 / 3.2)
        overflow = 0x200 if abs(current) >= 1 << 19 else 0
        flags = self.registers[0x0B] & ~0x200 | overflow | 2
        current = clamped(current, 20)
        self.registers |= {4: shunt << 4, 5: bus << 4, 6: round(31.5 / 7.8125e-3), 7: current << 4}
        self.registers |= {8: power, 0x0B: flags}

    def _count(self, seconds: float) -> None:
        current = (self.registers[7] >> 4) if 7 in self.registers else 0
        self.energy += self.registers.get(8, 0) * seconds / 16
        self.charge += current * seconds
        if self.energy >= 1 << 40:
            self.energy -= 1 << 40
            self.registers[0x0B] |= 0x800
        if abs(self.charge) >= 1 << 39:
            self.charge -= (1 << 40) * (1 if self.charge > 0 else -1)
            self.registers[0x0B] |= 0x400
