//! Programs of this machine with all the libraries they load, to run in a guest that has nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::qemu::Qemu;

/// Files by their absolute path in the guest.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What QEMU reads besides its libraries, where its package has them.
const FIRMWARE: [&str; 6] =
    ["qboot.rom", "bios-256k.bin", "kvmvapic.bin", "linuxboot.bin", "linuxboot_dma.bin", "pvh.bin"];

/// Modules of QEMU: emulation, and devices of the host's USB.
const MODULES: [&str; 2] = ["accel-tcg-x86_64.so", "hw-usb-host.so"];

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::system(format!("cannot read {}", path.display())))
}

/// Standard output of a program that ends well.
fn output(command: &mut Command) -> Result<String, Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.map_err(Error::system(format!("cannot run {name}")))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Adds the file at `path` as `name`, with all libraries that it needs, each at the place where the loader looks for it.
///
/// # Errors
///
/// [`Error::Missing`] when a library is not on this machine, [`Error::System`] when something cannot be read.
pub fn add(files: &mut Files, path: &Path, name: &str) -> Result<(), Error> {
    files.insert(name.to_owned(), read(path)?);
    for line in output(Command::new("ldd").arg(path))?.lines() {
        if line.contains("not found") {
            return Err(Error::Missing {
                program: "a library",
                remedy: format!("{} needs {}", path.display(), line.trim()),
            });
        }
        // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)" or "/lib64/ld-linux-x86-64.so.2 (0x...)"
        let Some(library) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
        if !files.contains_key(library) {
            files.insert(library.to_owned(), read(Path::new(library))?);
        }
    }
    Ok(())
}

/// Adds this machine's QEMU with the modules and firmware that it needs to pass a USB device through, and gives its path:
/// the same as here, because it looks for its modules beside itself.
///
/// # Errors
///
/// As [`add`]; [`Error::Missing`] when this QEMU cannot pass USB devices through.
pub fn add_qemu(files: &mut Files, qemu: &Qemu) -> Result<String, Error> {
    let program = find_program(&qemu.path)?;
    let name = program.display().to_string();
    add(files, &program, &name)?;
    for module in MODULES {
        let mut folders = ["/usr/lib/x86_64-linux-gnu/qemu", "/usr/lib/qemu"].iter();
        let path =
            folders.find_map(|folder| Some(Path::new(folder).join(module)).filter(|path| path.exists()));
        // Where it is not a module it is part of the program; whether it is, QEMU says.
        if let Some(path) = path {
            add(files, &path, &path.display().to_string())?;
        }
    }
    let devices = output(Command::new(&program).args(["-device", "usb-host,help"]))?;
    if !devices.contains("vendorid") {
        return Err(Error::Missing {
            program: "usb-host in QEMU",
            remedy: "install a QEMU with libusb (Debian: apt install qemu-system-x86)".into(),
        });
    }
    let folders = output(Command::new(&program).args(["-L", "help"]))?;
    let mut folders: Vec<PathBuf> = folders.lines().map(|line| PathBuf::from(line.trim())).collect();
    folders.push("/usr/share/qemu".into());
    for file in FIRMWARE {
        if let Some(path) = folders.iter().map(|folder| folder.join(file)).find(|path| path.exists()) {
            files.insert(format!("/usr/share/qemu/{file}"), read(&path)?);
        }
    }
    Ok(name)
}

/// The file behind a program's name.
fn find_program(name: &Path) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
    // A name with a slash is not changed by joining if it is absolute.
    places.find(|path| path.is_file()).ok_or_else(|| Error::Missing {
        program: "QEMU",
        remedy: format!("{} is not in the path", name.display()),
    })
}
