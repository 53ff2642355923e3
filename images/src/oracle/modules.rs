//! Kernel modules with all they depend on, in the order in which they load.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::oracle::packages::Kernel;

/// The modules of one kernel.
pub struct Modules {
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
    order: Vec<(String, Vec<u8>)>,
}

/// Module names have underscores, their files often dashes.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

impl Modules {
    /// Finds all modules of a kernel; none is chosen yet.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when the folder cannot be read.
    pub fn new(kernel: &Kernel) -> Result<Self, Error> {
        let failed = || Error::system(format!("cannot read {}", kernel.modules.display()));
        let mut files = BTreeMap::new();
        collect(&kernel.modules.join("kernel"), &mut files).map_err(failed())?;
        let list = fs::read_to_string(kernel.modules.join("modules.builtin")).map_err(failed())?;
        let built_in = list.lines().filter_map(|line| module_name(Path::new(line))).collect();
        Ok(Self { files, built_in, order: Vec::new() })
    }

    /// Chooses a module and all it depends on.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when the kernel has no such module.
    pub fn choose(&mut self, name: &str) -> Result<(), Error> {
        let name = canonical(name);
        if self.built_in.contains(&name) || self.order.iter().any(|(chosen, _)| *chosen == name) {
            return Ok(());
        }
        let file =
            self.files.get(&name).ok_or_else(|| Error::Usage(format!("this kernel has no module {name}")))?;
        let bytes = read(file)?;
        for needed in needed(&bytes) {
            self.choose(&needed)?;
        }
        self.order.push((name, bytes));
        Ok(())
    }

    /// Whether a module's table names this USB device by its numbers, not only by its class.
    ///
    /// # Errors
    ///
    /// [`Error::System`] or [`Error::Usage`] when the module cannot be read; a kernel without it names nothing.
    pub fn names_usb_device(&self, name: &str, vendor: u16, product: u16) -> Result<bool, Error> {
        let Some(file) = self.files.get(&canonical(name)) else { return Ok(false) };
        Ok(has_usb_alias(&read(file)?, vendor, product))
    }

    /// The chosen modules in the order in which they load.
    #[must_use]
    pub fn chosen(&self) -> &[(String, Vec<u8>)] {
        &self.order
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `r8152` of `.../r8152.ko` or `.../r8152.ko.xz`.
fn module_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let (name, _) = name.split_once(".ko")?;
    Some(canonical(name))
}

/// The module itself, unpacked.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let unpacker = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(path).map_err(Error::system(format!("cannot read {}", path.display()))),
    };
    let output = Command::new(unpacker).arg("-dc").arg(path).stdin(Stdio::null()).output();
    let output = output.map_err(Error::system(format!("cannot run {unpacker}")))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(Error::Usage(format!("{unpacker} cannot unpack {}", path.display())))
    }
}

/// The names behind `depends=` in the module's information section.
fn needed(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = &module[at + KEY.len()..];
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    let text = String::from_utf8_lossy(&value[..end]);
    text.split(',').filter(|name| !name.is_empty()).map(canonical).collect()
}

/// Whether one of the `alias=` in the module's information section is of this device.
fn has_usb_alias(module: &[u8], vendor: u16, product: u16) -> bool {
    let alias = format!("\0alias=usb:v{vendor:04X}p{product:04X}d");
    module.windows(alias.len()).any(|window| window == alias.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_module_itself() {
        let module = b"\x7fELF...\0license=GPL\0depends=usbcore,mii\0retpoline=Y\0";
        assert_eq!(needed(module), ["usbcore", "mii"]);
        assert!(needed(b"\0depends=\0").is_empty());
        assert!(needed(b"nothing").is_empty());
    }

    #[test]
    fn usb_devices_are_found_in_the_aliases_by_both_numbers() {
        let module =
            b"ELF\0alias=usb:v0BDAp8153d*dc*dsc*dp*ic02isc06ip00in*\0alias=usb:v*p*d*dc*ic02isc06ip00in*\0";
        assert!(has_usb_alias(module, 0x0bda, 0x8153));
        assert!(!has_usb_alias(module, 0x0bda, 0x8152));
        assert!(!has_usb_alias(module, 0x0bdb, 0x8153));
    }

    #[test]
    fn packed_and_plain_modules_have_the_same_name() {
        assert_eq!(module_name(Path::new("a/xhci-pci.ko.xz")).as_deref(), Some("xhci_pci"));
        assert_eq!(module_name(Path::new("r8152.ko")).as_deref(), Some("r8152"));
        assert_eq!(module_name(Path::new("modules.dep")), None);
    }
}
