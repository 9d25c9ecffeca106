#!/bin/bash
# The drivers alone, each in a process of its own that is started, stopped and killed; then what the scan finds.
# On the bus: a PCA9685, an INA219, a clock, and what the kernel has: a 1-Wire master, a BME280 and an LM75.
CHIPS=0x40,0x41,0x68,0x18,0x76,0x4f
. "$(dirname "$0")/hardware.sh"
cd "$CHECKOUT" || power_off
# A Pi's config.txt has gpio=17=pu,5=pu,...: what is high when it is let go is high from power-up.
for pin in 5 17 27; do echo pull-up >"$SIM/sim_gpio$pin/pull"; done
one_wire
"$VENV/bin/python" -c "import smbus2; smbus2.SMBus($I2C).write_byte_data(0x76, 0xd0, 0x60)"  # "a BME280"
_load bmp280-i2c
_load lm75
echo bme280 0x76 >"/sys/bus/i2c/devices/i2c-$I2C/new_device"
echo lm75 0x4f >"/sys/bus/i2c/devices/i2c-$I2C/new_device"
LG_WD=/run PYTHONPATH=$CHECKOUT "$VENV/bin/python" -m tests.vm.drivers
echo "END drivers $?"
power_off
