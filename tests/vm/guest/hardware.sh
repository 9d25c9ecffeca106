# Sourced by a guest's script: the Pi's lines and its I2C bus, and a trace of all that happens to them.
# Sets VM, VENV, CHECKOUT (paths), SIM (gpio-sim's folder with sim_gpioN/value and /pull) and I2C (the bus's number).
# CHIPS=0x40,0x18 (set before it: the addresses on the I2C bus at which a chip of plain registers answers)

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
_said() { sed -n "s/.* $1=\([^ ]*\).*/\1/p" /proc/cmdline; }
VM=$(_said vm) VENV=$(_said venv) CHECKOUT=$(_said checkout)
KERNEL_TREE=$VM/k

echo # what the firmware has left on this line is no part of what comes

# What ends a guest, whatever happened: there is nobody to press the button.
power_off() {
    sync
    echo o >/proc/sysrq-trigger
    while :; do sleep 1; done
}

_load() {
    if ! modprobe -d "$KERNEL_TREE" "$@"; then
        echo "FAIL guest: the kernel does not load $*"
        power_off
    fi
}

_load configfs
mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
_load gpio-sim
_load i2c-dev
_load i2c-stub "chip_addr=${CHIPS:-0x40,0x18}"

# The header of a Pi 4, by the label that its kernel gives to the chip.
_bank=/sys/kernel/config/gpio-sim/pi/bank0
mkdir -p $_bank
echo 54 >$_bank/num_lines
echo pinctrl-bcm2711 >$_bank/label
echo 1 >/sys/kernel/config/gpio-sim/pi/live
SIM=/sys/devices/platform/$(cat /sys/kernel/config/gpio-sim/pi/dev_name)/$(cat $_bank/chip_name)
GPIO=/dev/$(cat $_bank/chip_name)

I2C=$(for name in /sys/bus/i2c/devices/i2c-*/name; do
    grep -q stub "$name" && basename "$(dirname "$name")"
done | head -1)
I2C=${I2C#i2c-}

# A 1-Wire bus, by a master on I2C that finds nobody, and a thermometer that is only said to be there: enough for the
# kernel's files.
one_wire() {
    "$VENV/bin/python" -c "import smbus2; smbus2.SMBus($I2C).write_byte_data(0x18, 0xf0, 0x18)"  # "just reset"
    _load ds2482
    _load w1_therm
    echo ds2482 0x18 >"/sys/bus/i2c/devices/i2c-$I2C/new_device"
    echo 0 >/sys/devices/w1_bus_master1/w1_master_search
    echo 28-000000000001 >/sys/devices/w1_bus_master1/w1_master_add
}

# The trace: each call that reaches gpio-sim and each write to the I2C bus, with its time; not a poll, so no pulse is
# too short for it.  `tests/vm/trace.py` reads it.
mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
(
    cd /sys/kernel/tracing
    echo mono >trace_clock
    echo 8192 >buffer_size_kb
    {
        echo 'p:vm/out gpio_sim_direction_output pin=$arg2:u32 level=$arg3:s32'
        echo 'p:vm/set gpio_sim_set pin=$arg2:u32 level=$arg3:s32'
        echo 'p:vm/many gpio_sim_set_multiple mask=+0($arg2):x64 bits=+0($arg3):x64'
        echo 'p:vm/in gpio_sim_direction_input pin=$arg2:u32'
        echo 'p:vm/pull gpio_sim_apply_pull pin=$arg2:u32 level=$arg3:s32'
        echo 'p:vm/free gpio_sim_free pin=$arg2:u32'
    } | while read -r line; do
        if ! echo "$line" >>kprobe_events; then
            echo "FAIL guest: the kernel does not trace $line"
        fi
    done
    echo 1 >events/vm/enable
    echo 1 >events/smbus/smbus_write/enable
    echo 1 >tracing_on
)
export VM VENV CHECKOUT SIM GPIO I2C
