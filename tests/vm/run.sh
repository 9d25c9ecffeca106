#!/usr/bin/env bash
# run.sh SCRIPT [qemu arguments]: runs SCRIPT as process 1 of the virtual Pi, its serial line on stdout.
#
# No acceleration is asked for (build machines rarely have it), so everything in there is slow: 2-20 times.
# VM=.vm (the machine)  VENV=.venv (the venv to run)  VM_TIMEOUT=1800 (seconds)  VM_SMP=2  VM_MEM=1024 (MB)
set -euo pipefail

readonly here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly checkout=$(cd "$here/../.." && pwd)
readonly vm=$(realpath "${VM:-$checkout/.vm}") venv=$(realpath "${VENV:-$checkout/.venv}") script=$(realpath "$1")
shift

# The guest gets its paths by the kernel's command line, which is cut at blanks.
case "$script$vm$venv" in *[[:space:]]*) echo "the checkout's path must not contain blanks" >&2; exit 1;; esac

exec timeout --foreground --kill-after=5 "${VM_TIMEOUT:-1800}" qemu-system-x86_64 \
    -machine q35,accel=tcg -cpu max -smp "${VM_SMP:-2}" -m "${VM_MEM:-1024}" \
    -nographic -no-reboot -nodefaults -serial stdio -monitor none \
    -kernel "$vm/vmlinuz" -initrd "$vm/initrd" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off vmrun=$script vm=$vm venv=$venv checkout=$checkout" \
    -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap "$@" </dev/null
