//! Debian packages fetched and unpacked into a cache folder. Nothing is installed on this machine.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::progress::Progress;
use crate::qemu::bounded_apt;

/// Kernels to try in this order: the golden logs are those of Linux 6.12.
const PREFERRED: [&str; 2] = ["linux-image-6.12-amd64", "linux-image-amd64"];

/// A Linux kernel with its modules, and a busybox.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The bootable kernel.
    pub image: PathBuf,
    /// The folder with its modules.
    pub modules: PathBuf,
    /// A static busybox.
    pub busybox: PathBuf,
    /// What `uname -r` says.
    pub release: String,
}

/// Where fetched packages stay: `$XDG_CACHE_HOME/skiff` or `~/.cache/skiff`.
fn cache() -> Result<PathBuf, Error> {
    let base = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, Some(home)) => Path::new(&home).join(".cache"),
        _ => return Err(Error::Usage("neither XDG_CACHE_HOME nor HOME says where the cache is".into())),
    };
    Ok(base.join("skiff"))
}

impl Kernel {
    /// The kernel of a Debian package (`linux-image-...-amd64`), or of the one that the distribution prefers.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] where there is no apt, or no such package.
    pub fn fetch(package: Option<&str>) -> Result<Self, Error> {
        let package = match package {
            Some(package) => package.to_owned(),
            None => preferred()?,
        };
        let folder = unpack(&[&package, "busybox-static"])?;
        let failed = || Error::system(format!("what {package} unpacked to"));
        let image = find(&folder.join("boot"), "vmlinuz-").map_err(failed())?;
        let name = image.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let release = name.trim_start_matches("vmlinuz-").to_owned();
        let merged = folder.join("usr/lib/modules").join(&release);
        let modules = if merged.exists() { merged } else { folder.join("lib/modules").join(&release) };
        let merged = folder.join("usr/bin/busybox");
        let busybox = if merged.exists() { merged } else { folder.join("bin/busybox") };
        Ok(Self { image, modules, busybox, release })
    }
}

/// The file in `folder` whose name starts like this.
fn find(folder: &Path, start: &str) -> std::io::Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(start) {
            return Ok(entry.path());
        }
    }
    Err(std::io::ErrorKind::NotFound.into())
}

/// The package that the distribution's kernel meta-package stands for.
fn preferred() -> Result<String, Error> {
    for meta in PREFERRED {
        let text = output(Command::new("apt-cache").args(["depends", meta])).unwrap_or_default();
        let depends = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        if let Some(package) = depends.into_iter().find(|name| name.starts_with("linux-image-")) {
            return Ok(package.to_owned());
        }
    }
    Err(Error::Missing {
        program: "a Debian kernel package",
        remedy: "the oracle runs on Debian with package lists (apt-get update); or name one by --kernel"
            .into(),
    })
}

/// Unpacks packages into a folder of the cache, named after the first one; fetches them if they are not there.
///
/// # Errors
///
/// [`Error::Missing`] where apt cannot fetch them, [`Error::System`] where they cannot be unpacked.
pub fn unpack(packages: &[&str]) -> Result<PathBuf, Error> {
    let folder = cache()?.join(packages.first().copied().unwrap_or("nothing"));
    if folder.exists() {
        return Ok(folder);
    }
    let _progress = Progress::new(format!("fetching {}", packages.join(" ")));
    let failed = || Error::system(format!("cannot write {}", folder.display()));
    // Half an unpacked package must not look like a whole one: the folder gets its name at the end.
    let draft = folder.with_extension(format!("draft-{}", std::process::id()));
    let root = draft.join("root");
    fs::create_dir_all(&root).map_err(failed())?;
    let result = download_into(&draft, &root, packages);
    if result.is_ok() {
        // Another process may have been faster; its folder does as well.
        let _ = fs::rename(&root, &folder);
    }
    let _ = fs::remove_dir_all(&draft);
    result.map(|()| folder)
}

fn download_into(draft: &Path, root: &Path, packages: &[&str]) -> Result<(), Error> {
    // The user of apt's downloads may not write here; they are checked against apt's lists all the same.
    let mut apt = bounded_apt();
    apt.args(["download", "-o", "APT::Sandbox::User=root"]).args(packages).current_dir(draft);
    output(&mut apt).ok_or_else(|| Error::Missing {
        program: "apt-get",
        remedy: format!("`apt-get download {}` has to work here (apt-get update?)", packages.join(" ")),
    })?;
    for entry in fs::read_dir(draft).map_err(Error::system("cannot read the downloads"))?.flatten() {
        if entry.path().extension() == Some(OsStr::new("deb")) {
            output(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(root)).ok_or_else(|| {
                Error::Missing {
                    program: "dpkg-deb",
                    remedy: format!("it has to unpack {}", entry.path().display()),
                }
            })?;
        }
    }
    Ok(())
}

/// Standard output of a program that ends well.
fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
