"""A process that drives outputs and listens to inputs by our drivers, as it is told on stdin; answers on stdout.

A line of JSON each: {"do": "output", "name", "driver", "safe", "options"}, {"do": "write", "name", "level"},
{"do": "read", "name"}, {"do": "release", "name"}, {"do": "input", "name", "options"} with "driver" unless it is a
digital one, {"do": "sample", "name"}, {"do": "naive", "pin"}.  An input also says "changed" by itself.  End of input:
it ends without releasing anything.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from drivers import digital, gpio, pca9685, relay, s0
from drivers.base import Device, Output, Terms
from drivers.gpio import Pull
from edge.clock import SystemClock

OUTPUTS = {"relay": relay.DRIVER, "pca9685": pca9685.DRIVER}
INPUTS = {"digital": digital.DRIVER, "s0": s0.DRIVER}


class Holder:
    def __init__(self) -> None:
        self.clock = SystemClock()
        self.outputs: dict[str, Output] = {}
        self.inputs: dict[str, Device] = {}

    def obey(self, order: dict[str, Any]) -> Any:
        name = str(order.get("name", ""))
        match order["do"]:
            case "output":
                driver = OUTPUTS[order["driver"]]
                terms = Terms(name=name, safe=order["safe"])
                self.outputs[name] = driver.make(driver.options(**order["options"]), terms, self.clock)
                self.outputs[name].open()
            case "write":
                self.outputs[name].write(order["level"])
            case "read":
                return self.outputs[name].read_back()
            case "release":
                self.outputs[name].release()
            case "input":
                kind = INPUTS[order.get("driver", "digital")]
                device = self.inputs[name] = kind.make(kind.options(**order["options"]), self.clock)
                device.on_change = lambda: say({"changed": name})
                device.open()
            case "sample":
                return {sample.point: sample.value for sample in self.inputs[name].read()}
            case "naive":  # what nobody should do: the line is claimed low, and set high only then
                lines = gpio.lines()
                lines.claim_output(order["pin"], False, Pull.UP)
                lines.set(order["pin"], True)
            case other:
                raise ValueError(other)
        return None


def say(answer: dict[str, Any]) -> None:
    os.write(1, (json.dumps(answer) + "\n").encode())


def main() -> None:
    holder = Holder()
    say({"ready": True})
    for line in sys.stdin:
        try:
            say({"ok": holder.obey(json.loads(line))})
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"})
    os._exit(0)


if __name__ == "__main__":
    main()
