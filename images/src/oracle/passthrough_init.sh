#!/bin/busybox sh
# The first process of the Linux that passes the virtual adapter through: no driver of its own for it, only usbfs, the
# device manager that tells libusb of what comes and goes, and QEMU with our image.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
/bin/systemd-udevd --daemon >/dev/null 2>&1
for m in $(cat /lib/modules/order); do insmod /lib/modules/$m.ko || echo "@oracle missing module=$m"; done
i=0
until grep -q 0bda /sys/bus/usb/devices/*/idVendor 2>/dev/null || [ $i -gt 300 ]; do sleep 0.1; i=$((i + 1)); done
echo "@oracle booted plug=0 release=$(uname -r) found=$(cat /sys/bus/usb/devices/*/idProduct | tr '\n' ,)"
@QEMU@ -L /usr/share/qemu -accel tcg -cpu max -M q35 -m 64 -nodefaults -no-user-config -no-reboot -display none \
    -bios qboot.rom -kernel /image.elf -append "log=info @CMDLINE@" -serial stdio \
    -device virtio-rng-pci -device isa-debug-exit -device qemu-xhci,id=xhci \
    -device usb-host,bus=xhci.0,vendorid=0x0bda </dev/null 2>&1
echo "@oracle inner-ended plug=0 status=$?"
poweroff -f
