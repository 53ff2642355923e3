//! Debian's Linux in the image's place: same machine, same card, same far host, no more running than answers pings.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::nic::Nic;
use crate::oracle::linux::{Boot, Prepared};
use crate::oracle::packages::Kernel;

/// Its first process: it says that it is ready in the image's own words, and sleeps.
const SCRIPT: &str = "\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys
for m in $(cat /lib/modules/order); do insmod /lib/modules/$m.ko; done
while E=$(ls /sys/class/net | grep -E '^(eth|enx|usb)' | head -1); [ -z \"$E\" ]; do sleep 0.1; done
ip addr add 10.0.0.2/24 dev $E; ip link set $E up
while [ \"$(cat /sys/class/net/$E/carrier 2>/dev/null)\" != 1 ]; do sleep 0.1; done
echo \"@skiff ready interface=eth0 driver=linux mac=$(cat /sys/class/net/$E/address) address=10.0.0.2 prefix=24\"
while :; do sleep 1000; done
";

/// Memory in MiB: Linux needs most of a hundred.
const MEMORY: u32 = 256;

/// Linux's name and what boots it.
///
/// # Errors
///
/// Those of [`Kernel::fetch`] and [`Boot::prepare`].
pub fn linux(nic: Nic) -> Result<(String, Prepared), Error> {
    let kernel = Kernel::fetch(None)?;
    let modules: &[&str] = match nic {
        Nic::Virtio | Nic::VirtioTransitional => &["virtio_pci", "virtio_net"],
        Nic::CdcEcm => &["xhci_pci", "cdc_ether"],
        Nic::Rtl8152b | Nic::Rtl8153 | Nic::Rtl8153b | Nic::Rtl8156a | Nic::Rtl8156b => {
            &["xhci_pci", "r8152"]
        }
    };
    let boot = Boot { kernel: &kernel, modules, script: SCRIPT, files: BTreeMap::new(), memory: MEMORY };
    let version: Vec<&str> = kernel.release.split('.').take(2).collect();
    Ok((format!("Linux {}", version.join(".")), boot.prepare()?))
}
