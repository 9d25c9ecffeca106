#!/bin/bash
# One life of a Pi whose power is cut (tests/vm/powercut.py): its card is /dev/vda, the host's folder is /run/host.
. "$(dirname "$0")/hardware.sh"
cd "$CHECKOUT" || power_off
# A Pi's config.txt has gpio=17=pu, gpio=6=pd and gpio=5=pd: what the relays' boards see before anything runs.
echo pull-up >"$SIM/sim_gpio17/pull"

mkdir -p /run/host /run/vm/tidewatt_vm-1.0.dist-info /data
printf 'Metadata-Version: 2.1\nName: tidewatt-vm\nVersion: 1.0\n' >/run/vm/tidewatt_vm-1.0.dist-info/METADATA
printf '[tidewatt.drivers]\nvm-counter = tests.vm.counter:DRIVER\n' >/run/vm/tidewatt_vm-1.0.dist-info/entry_points.txt
mount -t 9p -o trans=virtio,version=9p2000.L,cache=none cuts /run/host
export LG_WD=/run PYTHONPATH=$CHECKOUT:/run/vm PYTHONUNBUFFERED=1
"$VENV/bin/python" -m tests.vm.cutguest
echo "END powercut $?"
power_off
