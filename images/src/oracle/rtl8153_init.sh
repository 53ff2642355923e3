#!/bin/busybox sh
# The first process of the Linux that judges the virtual adapter: each time an adapter shows up, uses it and reports.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
for m in $(cat /lib/modules/order); do insmod /lib/modules/$m.ko || echo "@oracle missing module=$m"; done
echo "@oracle booted plug=0 release=$(uname -r)"
plug=0
adapter() { ls /sys/class/net | grep -E '^(eth|enx|usb)' | head -1; }
# size, destination, count, seconds in between
try() {
    received=$(ping -q -c $3 -i ${4:-0.02} -W 5 -s $1 $2 2>/dev/null | sed -n 's/.* \([0-9]*\) packets received.*/\1/p')
    echo "@oracle ping plug=$plug size=$1 to=$2 sent=$3 received=${received:-0}"
}
# What the interface has counted so far.
errors() {
    sum=0
    for f in rx_errors tx_errors rx_crc_errors rx_length_errors; do
        sum=$((sum + $(cat /sys/class/net/$E/statistics/$f)))
    done
    echo $sum
}
while :; do
    while E=$(adapter); [ -z "$E" ]; do sleep 0.1; done
    plug=$((plug + 1))
    ip addr add 10.0.0.2/24 dev $E; ip link set $E up
    i=0
    while [ "$(cat /sys/class/net/$E/carrier 2>/dev/null)" != 1 ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i + 1)); done
    D=/sys/class/net/$E/device
    echo "@oracle link plug=$plug carrier=$(cat /sys/class/net/$E/carrier) speed=$(cat /sys/class/net/$E/speed)" \
        "driver=$(basename $(readlink $D/driver)) usb=$(cat $D/../speed) product=$(cat $D/../idProduct)"
    for size in 0 56 1400 1472; do try $size 10.0.0.1 20; done
    # A second reply of this length in the adapter's memory while the first is still taken out may not fit.
    try 8000 10.0.0.1 10 0.1
    try 60000 10.0.0.1 10 0.3
    if ip link set $E mtu 8000 2>/dev/null; then
        # The far end's own frames are as long: a host with jumbo frames.
        sleep 0.5; try 7900 10.0.0.4 10
        ip link set $E mtu 1500; sleep 0.5; try 57 10.0.0.1 5
    fi
    nc 10.0.0.3 5002 </dev/null >/tmp/stream
    echo "@oracle received plug=$plug bytes=$(wc -c </tmp/stream)"
    nc 10.0.0.3 5001 </tmp/stream >/dev/null
    before=$(errors)
    # Closed and opened again. What is on its way out just then, usbnet takes back and counts as an error: nobody's.
    ip link set $E down; sleep 0.2; taken_back=$(($(errors) - before)); ip link set $E up; sleep 0.5; try 58 10.0.0.1 5
    echo "@oracle done plug=$plug errors=$(($(errors) - taken_back))"
    # Traffic for as long as the adapter is there: it is unplugged in the middle of it.
    ping -i 0.01 -s 1000 10.0.0.1 >/dev/null 2>&1 &
    while [ -e /sys/class/net/$E ]; do sleep 0.1; done
    kill $! 2>/dev/null
    echo "@oracle gone plug=$plug"
done
