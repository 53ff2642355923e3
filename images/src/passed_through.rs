//! USB adapters and controllers of this machine, handed to the guest: what QEMU is told, and clear words when it cannot
//! work.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::Error;

/// The virtual CD-ROM that some adapters of the RTL8152 family are until somebody ejects it.
const CD_ROM: (u16, u16) = (0x0bda, 0x8151);

/// Which USB device of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsbHost {
    /// By its ids.
    Ids {
        /// `idVendor`.
        vendor: u16,
        /// `idProduct`.
        product: u16,
    },
    /// By where it is plugged in.
    Port {
        /// Number of the bus.
        bus: u8,
        /// Port on the bus, with dots through hubs: `2.1.4`.
        port: String,
    },
}

impl FromStr for UsbHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let explain = || format!("`{text}` is neither VENDOR:PRODUCT (0bda:8153) nor BUS.PORT (2.1)");
        if let Some((vendor, product)) = text.split_once(':') {
            let hexadecimal = |digits| u16::from_str_radix(digits, 16).map_err(|_| explain());
            return Ok(Self::Ids { vendor: hexadecimal(vendor)?, product: hexadecimal(product)? });
        }
        let (bus, port) = text.split_once('.').ok_or_else(explain)?;
        let bus = bus.parse().map_err(|_| explain())?;
        if port.split('.').any(|number| number.parse::<u8>().is_err()) {
            return Err(explain());
        }
        Ok(Self::Port { bus, port: port.to_owned() })
    }
}

impl fmt::Display for UsbHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ids { vendor, product } => write!(formatter, "{vendor:04x}:{product:04x}"),
            Self::Port { bus, port } => write!(formatter, "bus {bus}, port {port}"),
        }
    }
}

/// A PCI device by its address, `0000:00:14.0` or `00:14.0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciAddress(String);

impl FromStr for PciAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let full = if text.matches(':').count() == 1 { format!("0000:{text}") } else { text.to_owned() };
        let parts: Vec<&str> = full.split([':', '.']).collect();
        let widths = [4, 2, 2, 1];
        let sound = parts.len() == widths.len()
            && parts.iter().zip(widths).all(|(part, width)| {
                part.len() == width && part.chars().all(|digit| digit.is_ascii_hexdigit())
            });
        if sound { Ok(Self(full)) } else { Err(format!("`{text}` is no PCI address such as 0000:00:14.0")) }
    }
}

/// A USB device of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    ids: (u16, u16),
    bus: u8,
    number: u8,
    port: String,
    name: String,
}

impl Found {
    /// Reads a folder of `/sys/bus/usb/devices`; `None` for interfaces.
    fn read(folder: &Path) -> Option<Self> {
        let text = |file: &str| fs::read_to_string(folder.join(file)).map(|text| text.trim().to_owned()).ok();
        let hexadecimal = |file: &str| u16::from_str_radix(&text(file)?, 16).ok();
        Some(Self {
            ids: (hexadecimal("idVendor")?, hexadecimal("idProduct")?),
            bus: text("busnum")?.parse().ok()?,
            number: text("devnum")?.parse().ok()?,
            port: text("devpath")?,
            name: text("product").unwrap_or_default(),
        })
    }

    fn is(&self, wanted: &UsbHost) -> bool {
        match wanted {
            UsbHost::Ids { vendor, product } => self.ids == (*vendor, *product),
            UsbHost::Port { bus, port } => (self.bus, &self.port) == (*bus, port),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vendor, product) = self.ids;
        write!(formatter, "{vendor:04x}:{product:04x} at {}.{} {}", self.bus, self.port, self.name)
    }
}

/// What may be wrong with it is said before QEMU starts.
///
/// # Errors
///
/// [`Error::Usage`]: the device is not there, may not be opened, or is the virtual CD-ROM.
pub fn usb_device_arguments(index: usize, wanted: &UsbHost) -> Result<Vec<String>, Error> {
    let devices = usb_devices(Path::new("/sys/bus/usb/devices"));
    let found = choose(wanted, &devices).map_err(Error::Usage)?;
    let node = PathBuf::from(format!("/dev/bus/usb/{:03}/{:03}", found.bus, found.number));
    if let Err(error) = OpenOptions::new().read(true).write(true).open(&node) {
        return Err(Error::Usage(permission_text(found, &node, &error)));
    }
    let which = match wanted {
        UsbHost::Ids { vendor, product } => format!("vendorid={vendor:#06x},productid={product:#06x}"),
        UsbHost::Port { bus, port } => format!("hostbus={bus},hostport={port}"),
    };
    Ok(vec![
        "-device".into(),
        format!("qemu-xhci,id=usbhost{index}"),
        "-device".into(),
        format!("usb-host,bus=usbhost{index}.0,{which}"),
    ])
}

fn usb_devices(folder: &Path) -> Vec<Found> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Found::read(&entry.path())).collect()
}

/// The device that is meant, or why it cannot be had.
fn choose<'a>(wanted: &UsbHost, devices: &'a [Found]) -> Result<&'a Found, String> {
    let found = devices.iter().find(|device| device.is(wanted));
    if let (Some(found), UsbHost::Ids { .. }) = (found, wanted)
        && found.ids == CD_ROM
    {
        return Err(format!(
            "{found} is an adapter that still shows its virtual CD-ROM; once it is ejected it comes back with other ids. \
             Name it by its port, --usb-host {}.{}: then it stays with the guest, which ejects it by itself",
            found.bus, found.port
        ));
    }
    found.ok_or_else(|| {
        let drive = devices.iter().find(|device| device.ids == CD_ROM);
        let hint = drive.map_or_else(String::new, |drive| {
            format!(
                ". {:04x}:{:04x} is an adapter that still shows its virtual CD-ROM: try --usb-host {}.{}",
                CD_ROM.0, CD_ROM.1, drive.bus, drive.port
            )
        });
        let others: Vec<String> = devices.iter().map(|device| format!("\n    {device}")).collect();
        let others = if others.is_empty() { "\n    none".to_owned() } else { others.concat() };
        format!("there is no USB device {wanted} on this machine{hint}. There are:{others}")
    })
}

fn permission_text(found: &Found, node: &Path, error: &io::Error) -> String {
    let (vendor, product) = found.ids;
    let node = node.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "{found}: this user may not open {node}. Run as root, or allow it by a rule in /etc/udev/rules.d: \
             SUBSYSTEM==\"usb\", ATTR{{idVendor}}==\"{vendor:04x}\", ATTR{{idProduct}}==\"{product:04x}\", MODE=\"0666\""
        ),
        _ => format!(
            "{found}: cannot open {node}: {error} (in a container, /dev/bus/usb has to be handed to it)"
        ),
    }
}

/// A whole USB controller by vfio-pci. What may be wrong with it is said before QEMU starts.
///
/// # Errors
///
/// [`Error::Usage`]: no such device, not a USB controller, no IOMMU, or not bound to vfio-pci.
pub fn usb_controller_arguments(address: &PciAddress) -> Result<Vec<String>, Error> {
    check_controller(Path::new("/sys/bus/pci/devices"), address).map_err(Error::Usage)?;
    Ok(vec!["-device".into(), format!("vfio-pci,host={}", address.0)])
}

fn check_controller(devices: &Path, PciAddress(address): &PciAddress) -> Result<(), String> {
    let folder = devices.join(address);
    let class = fs::read_to_string(folder.join("class"))
        .map_err(|_| format!("there is no PCI device {address} on this machine"))?;
    if class.trim() != "0x0c0330" {
        return Err(format!("{address} has class {}: not an xHCI USB controller (0x0c0330)", class.trim()));
    }
    if !folder.join("iommu_group").exists() {
        return Err(format!(
            "{address} is in no IOMMU group: switch the IOMMU on (firmware set-up, and intel_iommu=on or amd_iommu=on on \
             the kernel's command line)"
        ));
    }
    let driver = fs::read_link(folder.join("driver")).unwrap_or_default();
    let driver = driver.file_name().map(|name| name.to_string_lossy().into_owned());
    match driver.as_deref() {
        Some("vfio-pci") => Ok(()),
        other => Err(format!(
            "{address} is driven by {}, not by vfio-pci; as root (all devices on it leave this machine):\n    \
             modprobe vfio-pci\n    echo vfio-pci > {folder}/driver_override\n    \
             echo {address} > {folder}/driver/unbind\n    echo {address} > /sys/bus/pci/drivers_probe",
            other.unwrap_or("nothing"),
            folder = folder.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(product: u16, port: &str) -> Found {
        Found { ids: (0x0bda, product), bus: 2, number: 5, port: port.into(), name: "LAN".into() }
    }

    #[test]
    fn devices_are_named_by_ids_or_by_port() {
        let ids = UsbHost::Ids { vendor: 0x0bda, product: 0x8153 };
        assert_eq!("0bda:8153".parse(), Ok(ids));
        assert_eq!("2.1.4".parse(), Ok(UsbHost::Port { bus: 2, port: "1.4".into() }));
        for bad in ["", "2", "0bda:", "x:y", "2.x", "2."] {
            assert!(bad.parse::<UsbHost>().is_err(), "{bad}");
        }
    }

    #[test]
    fn pci_addresses_may_leave_out_their_domain() {
        assert_eq!("00:14.0".parse(), Ok(PciAddress("0000:00:14.0".into())));
        assert_eq!("0001:0a:14.0".parse(), Ok(PciAddress("0001:0a:14.0".into())));
        assert!("14.0".parse::<PciAddress>().is_err() && "0000:00:14".parse::<PciAddress>().is_err());
    }

    #[test]
    fn a_missing_device_is_told_with_those_that_are_there() {
        let text = choose(&"0bda:8153".parse().unwrap(), &[device(0x8156, "1")]).unwrap_err();
        assert!(text.contains("no USB device 0bda:8153") && text.contains("0bda:8156 at 2.1 LAN"), "{text}");
        let text = choose(&"0bda:8153".parse().unwrap(), &[device(0x8151, "3")]).unwrap_err();
        assert!(text.contains("CD-ROM: try --usb-host 2.3"), "{text}");
    }

    #[test]
    fn an_adapter_in_its_cd_rom_mode_is_taken_by_its_port_only() {
        let devices = [device(0x8151, "3")];
        let text = choose(&"0bda:8151".parse().unwrap(), &devices).unwrap_err();
        assert!(text.contains("--usb-host 2.3"), "{text}");
        assert_eq!(choose(&"2.3".parse().unwrap(), &devices), Ok(&devices[0]));
    }

    #[test]
    fn a_device_that_may_not_be_opened_is_told_with_the_rule_that_allows_it() {
        let error = io::ErrorKind::PermissionDenied.into();
        let text = permission_text(&device(0x8153, "1"), Path::new("/dev/bus/usb/002/005"), &error);
        assert!(
            text.contains("ATTR{idProduct}==\"8153\"") && text.contains("/dev/bus/usb/002/005"),
            "{text}"
        );
    }

    #[test]
    fn a_controller_without_the_right_driver_is_told_with_the_commands() {
        let devices = std::env::temp_dir().join(format!("skiff-pci-{}", std::process::id()));
        let address: PciAddress = "0000:00:14.0".parse().unwrap();
        let folder = devices.join(&address.0);
        let told = |what: &str| {
            let text = check_controller(&devices, &address).unwrap_err();
            assert!(text.contains(what), "{text}");
        };
        told("no PCI device");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("class"), "0x020000\n").unwrap();
        told("not an xHCI");
        fs::write(folder.join("class"), "0x0c0330\n").unwrap();
        told("IOMMU");
        fs::write(folder.join("iommu_group"), "").unwrap();
        told("driven by nothing");
        std::os::unix::fs::symlink("/drivers/vfio-pci", folder.join("driver")).unwrap();
        assert_eq!(check_controller(&devices, &address), Ok(()));
        fs::remove_dir_all(&devices).unwrap();
    }
}
