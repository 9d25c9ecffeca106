#!/usr/bin/env bash
# build.sh [DIR]: makes the virtual Pi, by default in .vm of the checkout.  Needs root and Debian 12; 20-60 s, once.
#
# Its root is this machine's own tree (9p, read-only, with an overlay in memory), so that it runs the checkout's own
# venv.  Its kernel is Debian's, with what a Pi has and a build machine has not: GPIO lines (gpio-sim, which Debian
# does not build, from Debian's own kernel source), I2C (i2c-dev) and chips on it (i2c-stub, made able to hang).
set -euo pipefail

readonly here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly checkout=$(cd "$here/../.." && pwd)
readonly dir=${1:-$checkout/.vm}
# What this guest is made by; another one is made when it changes.
readonly recipe=$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-16)

if [[ $(cat "$dir/recipe" 2>/dev/null) == "$recipe" ]]; then
    exit 0
fi
if ((EUID != 0)); then
    echo "the virtual Pi is built and run as root (it shares this machine's tree); run: sudo make vm" >&2
    exit 1
fi
if ! grep -q '^VERSION_CODENAME=bookworm' /etc/os-release; then
    echo "gpio-sim is built from the kernel source of Debian 12 (bookworm), and this is another system; run it there" >&2
    exit 1
fi

echo "making the virtual Pi in $dir (a minute, once)"
"$checkout/.ci/need" qemu-system-x86_64=qemu-system-x86 busybox=busybox-static cpio=cpio depmod=kmod make=make gcc=gcc \
    xz=xz-utils systemctl=systemd ip=iproute2 mkfs.ext4=e2fsprogs
mkdir -p "$dir"
rm -f "$dir/recipe"
cd "$dir"

# The kernel, its headers and its source have to be of one version: the one that the archive has now.
export DEBIAN_FRONTEND=noninteractive
kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: linux-image-//p' | head -1)
if [[ -z $kernel ]]; then
    apt-get update -qq
    kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: linux-image-//p' | head -1)
fi
apt-get install -y -qq --no-install-recommends "linux-headers-$kernel" linux-source-6.1 >/dev/null
rm -rf k mod i ./*.deb
# Unpacked, never installed: this machine keeps its own kernel.
apt-get download -q "linux-image-$kernel" >/dev/null 2>&1
dpkg-deb -x "linux-image-${kernel}"_*.deb k
rm -f ./*.deb

# Debian's kernel has no simulated interrupts either (CONFIG_IRQ_SIM), so they become a part of the module.
mkdir -p mod/b
tar xJf /usr/src/linux-source-6.1.tar.xz -C mod --strip-components=1 \
    linux-source-6.1/drivers/gpio/{gpio-sim.c,gpiolib.h} linux-source-6.1/kernel/irq/irq_sim.c \
    linux-source-6.1/drivers/i2c/i2c-stub.c
cp mod/drivers/gpio/gpio-sim.c mod/b/gpio_sim_main.c
cp mod/drivers/gpio/gpiolib.h mod/kernel/irq/irq_sim.c mod/b/
# irq_to_desc is not exported to modules; the same comes by way of what is.
sed -i -e '/EXPORT_SYMBOL_GPL/d' \
    -e 's/irq_to_desc(\([a-z]*\))/irq_data_to_desc(irq_get_irq_data(\1))/' \
    -e 's|#include <linux/interrupt.h>|&\n#include <linux/irqdesc.h>|' mod/b/irq_sim.c
# A chip whose address is in the parameter `hang` lets no transfer return, as a bus does that is stuck.
sed -e 's|#include <linux/errno.h>|#include <linux/delay.h>\n&\n#include <linux/sched/signal.h>|' \
    -e 's|^/\* Return negative errno on error. \*/|static ushort hang;\nmodule_param(hang, ushort, 0644);\n\n&|' \
    -e 's|^\t/\* Search for the right chip \*/|\twhile (READ_ONCE(hang) == addr) {\n\t\tif (fatal_signal_pending(current))\n\t\t\treturn -EINTR;\n\t\tmsleep(20);\n\t}\n\n&|' \
    mod/drivers/i2c/i2c-stub.c >mod/b/i2c-stub.c
printf 'obj-m := gpio-sim.o i2c-stub.o\ngpio-sim-y := gpio_sim_main.o irq_sim.o\n' >mod/b/Kbuild
make -s -C "/usr/src/linux-headers-$kernel" M="$PWD/mod/b" modules >mod/log 2>&1 || { cat mod/log >&2; exit 1; }
mkdir -p "k/lib/modules/$kernel/extra"
cp mod/b/gpio-sim.ko "k/lib/modules/$kernel/extra/"
cp mod/b/i2c-stub.ko "k/lib/modules/$kernel/kernel/drivers/i2c/"
PATH="$PATH:/sbin:/usr/sbin" depmod -b k "$kernel"

# The first root: loads what it takes to reach this machine's tree, and goes there.
mkdir -p i/{bin,lib/modules,proc,sys,dev,mnt,host,ov}
cp "$(command -v busybox)" i/bin/busybox
: >i/mods
for module in virtio_pci virtio_blk ext4 9pnet_virtio 9p overlay; do
    PATH="$PATH:/sbin:/usr/sbin" modprobe -d k -S "$kernel" --show-depends "$module" | awk '$1 == "insmod" {print $2}'
done | awk '!seen[$0]++' | while read -r file; do
    cp "$file" i/lib/modules/
    basename "$file" >>i/mods
done
cat >i/init <<'INIT'
#!/bin/busybox sh
export PATH=/bin; /bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
while read m; do insmod /lib/modules/$m; done < /mods
mount -t tmpfs t /ov; mkdir -p /ov/up /ov/wk
mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose host /host
mount -t overlay -o lowerdir=/host,upperdir=/ov/up,workdir=/ov/wk o /mnt
for d in proc sys dev; do mount --move /$d /mnt/$d; done
mount -t tmpfs r /mnt/run; mount -t tmpfs tt /mnt/dev/shm 2>/dev/null
exec switch_root /mnt /bin/bash "$(sed -n 's/.*vmrun=\([^ ]*\).*/\1/p' /mnt/proc/cmdline)" </mnt/dev/ttyS0 >/mnt/dev/ttyS0 2>&1
INIT
chmod +x i/init
(cd i && find . | cpio -o -H newc --quiet | gzip -1) >initrd
cp "k/boot/vmlinuz-$kernel" vmlinuz
rm -rf mod i
echo "$kernel" >kernel
echo "$recipe" >recipe
