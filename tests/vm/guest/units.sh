#!/bin/bash
# The real unit under systemd as process 1.  Installed as its comments say: a venv in /opt/tidewatt, the config in /etc.
. "$(dirname "$0")/hardware.sh"

# The checkout, its venv and its Python may lie where the unit's sandbox sees nothing (/home, /root, /tmp): the guest
# has them under /opt, the venv with a layer of its own, in which the paths are put right.
mkdir -p /opt/tidewatt /opt/checkout /opt/python /run/venv/{up,work}
mount --bind "$CHECKOUT" /opt/checkout
mount -t overlay overlay -o "lowerdir=$VENV,upperdir=/run/venv/up,workdir=/run/venv/work" /opt/tidewatt
base=$("$VENV/bin/python" -c 'import sys; print(sys.base_prefix)')
version=$("$VENV/bin/python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
if [[ $base != /usr ]]; then
    mount --bind "$base" /opt/python
    ln -sf "/opt/python/bin/$version" /opt/tidewatt/bin/python
    sed -i "s|^home = .*|home = /opt/python/bin|" /opt/tidewatt/pyvenv.cfg
    if compgen -G "$base/lib/libpython*.so.*" >/dev/null; then  # the path of its own library is built into it
        echo /opt/python/lib >/etc/ld.so.conf.d/000-python.conf
        ldconfig
    fi
fi
site=/opt/tidewatt/lib/$version/site-packages
echo /opt/checkout >"$site/checkout.pth"
sed -i '1s|.*|#!/opt/tidewatt/bin/python|' /opt/tidewatt/bin/tidewatt
mkdir -p "$site/tidewatt_vm-1.0.dist-info"
printf 'Metadata-Version: 2.1\nName: tidewatt-vm\nVersion: 1.0\n' >"$site/tidewatt_vm-1.0.dist-info/METADATA"
printf '[tidewatt.drivers]\nvm-stall = tests.vm.stall:DRIVER\n' >"$site/tidewatt_vm-1.0.dist-info/entry_points.txt"

# What Pi OS's udev rules do: the groups gpio and i2c may use them.
install -D -m 644 "$CHECKOUT/systemd/tidewatt.sysusers" /etc/sysusers.d/tidewatt.conf
systemd-sysusers /etc/sysusers.d/tidewatt.conf
chgrp gpio "$GPIO" && chmod 660 "$GPIO"
chgrp i2c "/dev/i2c-$I2C" && chmod 660 "/dev/i2c-$I2C"
# A Pi's config.txt has gpio=17=pu; GPIO 6 is pulled up at reset, so it has gpio=6=pd.
echo pull-up >"$SIM/sim_gpio17/pull"

# What udev does with the files of a 1-Wire bus is done by the rules that are shipped.
install -D -m 644 "$CHECKOUT/systemd/tidewatt.rules" /etc/udev/rules.d/60-tidewatt.rules
/lib/systemd/systemd-udevd --daemon
one_wire
udevadm settle --timeout=60
udevadm control --exit

rm -rf /etc/tidewatt /var/lib/tidewatt
install -d /etc/tidewatt
sed "s/I2C_BUS/$I2C/" "$CHECKOUT/tests/vm/guest/config.toml" >/etc/tidewatt/config.toml

# Nothing of this machine's own services: the unit under test, and the tests.  Least of all systemd-tmpfiles, which
# would clean this machine's /tmp, as the guest sees it, for minutes.
rm -rf /etc/systemd/system
install -D -m 644 "$CHECKOUT/systemd/tidewatt-edge.service" /etc/systemd/system/tidewatt-edge.service
cat >/etc/systemd/system/vm-tests.service <<UNIT
[Unit]
Description=tests of the virtual Pi
DefaultDependencies=no
[Service]
Type=oneshot
WorkingDirectory=/opt/checkout
Environment=SIM=$SIM I2C=$I2C PYTHONUNBUFFERED=1
ExecStart=/opt/tidewatt/bin/python -m tests.vm.units
ExecStopPost=/bin/sh -c 'echo "END units \$EXIT_STATUS"; sleep 1; echo o >/proc/sysrq-trigger'
StandardOutput=append:/dev/ttyS0
StandardError=append:/dev/ttyS0
UNIT
cat >/etc/systemd/system/vm.target <<UNIT
[Unit]
DefaultDependencies=no
Wants=tidewatt-edge.service vm-tests.service
UNIT
for unit in getty.target serial-getty@ttyS0.service systemd-networkd-wait-online.service systemd-udev-settle.service systemd-udevd.service \
    systemd-udev-trigger.service systemd-resolved.service systemd-timesyncd.service systemd-networkd.service \
    apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer fstrim.timer systemd-firstboot.service systemd-tmpfiles-setup.service \
    systemd-tmpfiles-clean.timer; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done
: >/etc/fstab
rm -f /.dockerenv  # this machine may be a container, the guest is none
ip link set lo up
# shellcheck disable=SC2093
exec /lib/systemd/systemd --unit=vm.target --log-target=journal --show-status=no
