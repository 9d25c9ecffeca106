#!/bin/bash
# The drivers alone, each in a process of its own that is started, stopped and killed.
. "$(dirname "$0")/hardware.sh"
cd "$CHECKOUT" || power_off
# A Pi's config.txt has gpio=17=pu,5=pu,...: what is high when it is let go is high from power-up.
for pin in 5 17 27; do echo pull-up >"$SIM/sim_gpio$pin/pull"; done
LG_WD=/run PYTHONPATH=$CHECKOUT "$VENV/bin/python" -m tests.vm.drivers
echo "END drivers $?"
power_off
