"""Edges of a GPIO line with the kernel's own time stamps, by the character device's second interface.

Source: linux/gpio.h (v2).  rpi-lgpio's callbacks do not hand the time stamp on, and do not tell of edges that were
lost; the kernel does both, and needs no library.  Levels here are the line's own: True is high.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from drivers import boards
from drivers.base import Clock, DeviceMisconfigured, DeviceUnavailable
from drivers.gpio import Pull

CONSUMER: Final = b"tidewatt"
#: offsets[64], consumer, flags, num_attrs, padding and attributes, num_lines, event_buffer_size, padding, fd
REQUEST: Final = struct.Struct("=I252x 32s Q 264x II 20x i")
GET_LINE_IOCTL: Final = 0xC250B407
VALUES: Final = struct.Struct("=QQ")
GET_VALUES_IOCTL: Final = 0xC010B40E
#: timestamp_ns (CLOCK_MONOTONIC), id, offset, seqno, line_seqno, padding
EVENT: Final = struct.Struct("=QIIII24x")
RISING: Final = 1
INPUT_BOTH_EDGES: Final = 1 << 2 | 1 << 4 | 1 << 5
BIAS: Final = {Pull.UP: 1 << 8, Pull.DOWN: 1 << 9, Pull.EXTERNAL: 1 << 10}
#: Edges that the kernel keeps for us at most; it drops the oldest and their numbers tell how many.
BUFFER_EVENTS: Final = 1024
#: Between two looks, so that a line that hums costs little: 10 000 edges a second still arrive whole.
LOOK_S: Final = 0.1
JOIN_S: Final = 2.0
NS_PER_S: Final = 1e9


class Edge(NamedTuple):
    """A change of the line.  at_ns: when, by the kernel's monotonic clock; high: its level from then on."""

    at_ns: int
    high: bool


#: Takes edges in their order, and how many were lost before them; on a thread of its own.
Take = Callable[[Sequence[Edge], int], None]


class Listener(Protocol):
    """A line that is listened to."""

    def now_ns(self) -> int:
        """Now, by the clock of the edges."""

    def level(self) -> bool:
        """The level now.  Raises DeviceUnavailable."""

    def tell_waiting(self) -> None:
        """Tell at once, on this thread, what has come and was not told yet.  Raises DeviceUnavailable."""

    def close(self) -> None:
        """Let go; no edge is told after it.  Never raises."""


def listen(pin: int, pull: Pull, take: Take, clock: Clock) -> Listener:
    """Claim the line as an input and tell its edges.  Raises DeviceUnavailable, DeviceMisconfigured."""
    chip = boards.find_chip()
    if chip is None:
        raise DeviceUnavailable(
            "no GPIO of a Raspberry Pi can be opened here; run this on a Pi, put the daemon's user into the group "
            "gpio, and check that /dev/gpiochip* exists and the unit's DeviceAllow has it"
        )
    return KernelListener(_claim(f"/dev/gpiochip{chip.number}", pin, pull), pin, take, clock)


def _claim(path: str, pin: int, pull: Pull) -> int:
    """The descriptor of the claimed line."""
    request = REQUEST.pack(pin, CONSUMER, INPUT_BOTH_EDGES | BIAS[pull], 1, BUFFER_EVENTS, 0)
    try:
        chip = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            answer = fcntl.ioctl(chip, GET_LINE_IOCTL, request)
        finally:
            os.close(chip)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise DeviceUnavailable(
                f"GPIO {pin} is held by another program; stop that, or remove its dtoverlay from config.txt "
                "(`gpioinfo` lists who holds what)"
            ) from error
        if error.errno == errno.ENOTTY:
            raise DeviceMisconfigured(
                "this kernel has no GPIO interface of version 2; update it to 5.10 or later"
            ) from error
        raise DeviceUnavailable(
            f"GPIO {pin} of {path}: {error.strerror}; check that the board has this line"
        ) from error
    descriptor: int = REQUEST.unpack(answer)[-1]
    return descriptor


class KernelListener:
    """Owner of a claimed line's descriptor and of the thread that reads it."""

    def __init__(self, descriptor: int, pin: int, take: Take, clock: Clock) -> None:
        self._descriptor = descriptor
        self._pin = pin
        self._take = take
        self._clock = clock
        self._line_seqno = 0
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._arrived = select.poll()
        self._arrived.register(descriptor, select.POLLIN)
        self._ended = threading.Event()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name=f"edges of GPIO {pin}", daemon=True)
        self._thread.start()

    def now_ns(self) -> int:
        return round(self._clock.monotonic_s() * NS_PER_S)

    def level(self) -> bool:
        with self._lock:
            if self._ended.is_set():
                raise DeviceUnavailable(f"GPIO {self._pin} is not listened to; check whether it was removed")
            try:
                answer = fcntl.ioctl(self._descriptor, GET_VALUES_IOCTL, VALUES.pack(0, 1))
            except OSError as error:
                raise DeviceUnavailable(
                    f"GPIO {self._pin}: {error.strerror}; check that its chip is still there"
                ) from error
        return bool(VALUES.unpack(answer)[0])

    def tell_waiting(self) -> None:
        with self._telling:
            if self._ended.is_set() or not self._arrived.poll(0):
                return
            try:
                data = os.read(self._descriptor, EVENT.size * BUFFER_EVENTS)
            except OSError as error:
                raise DeviceUnavailable(
                    f"GPIO {self._pin}: {error.strerror}; check that its chip is still there"
                ) from error
            self._tell(data)

    def close(self) -> None:
        with self._lock:
            if self._ended.is_set():
                return
            self._ended.set()
        os.write(self._wake_write, b"x")
        self._thread.join(JOIN_S)
        if not self._thread.is_alive():
            for descriptor in (self._descriptor, self._wake_read, self._wake_write):
                os.close(descriptor)

    def _run(self) -> None:
        waiting = select.poll()
        for descriptor in (self._descriptor, self._wake_read):
            waiting.register(descriptor, select.POLLIN)
        try:
            while waiting.poll() and not self._ended.is_set():
                self.tell_waiting()
                self._ended.wait(LOOK_S)
        except OSError:
            return  # the chip is gone; `level` says so

    def _tell(self, data: bytes) -> None:
        edges, lost = [], 0
        for at_ns, id_, _offset, _seqno, line_seqno in EVENT.iter_unpack(data):
            lost += (line_seqno - self._line_seqno - 1) & 0xFFFFFFFF
            self._line_seqno = line_seqno
            edges.append(Edge(at_ns, id_ == RISING))
        self._take(edges, lost)
