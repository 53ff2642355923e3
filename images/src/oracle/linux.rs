//! Linux booted with a script of ours as its first process, which reports on the serial console.
//!
//! A report is a line `@oracle WORD key=value ...`. The kernel's own messages may come before and after it on the same
//! line.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::time::Duration;

use crate::console::Transcript;
use crate::error::Error;
use crate::guest::{Guest, GuestConfiguration, MachineType};
use crate::nic::Descriptors;
use crate::oracle::archive::Archive;
use crate::oracle::modules::Modules;
use crate::oracle::packages::Kernel;
use crate::qemu::{Firmware, Qemu};
use crate::temporary::Temporary;

/// Folders that every guest has.
const FOLDERS: [&str; 9] = ["bin", "dev", "etc", "lib", "lib/modules", "proc", "run", "sys", "tmp"];

/// What Linux boots with.
pub struct Boot<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Modules that the script loads.
    pub modules: &'a [&'a str],
    /// The first process.
    pub script: &'a str,
    /// More files in the guest, all of them executable: absolute path and content.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Memory in MiB.
    pub memory: u32,
}

/// One report of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it is about.
    pub word: String,
    /// Its values.
    pub values: BTreeMap<String, String>,
}

impl Report {
    /// The report in a console line, if there is one.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (_, text) = line.split_once("@oracle ")?;
        let mut words = text.split_whitespace();
        let word = words.next()?.to_owned();
        let pairs = words.filter_map(|pair| pair.split_once('='));
        let values = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Some(Self { word, values })
    }

    /// A value as text; empty if it is not there.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.values.get(key).map_or("", String::as_str)
    }

    /// A value as a number; zero if it is none.
    #[must_use]
    pub fn number(&self, key: &str) -> u64 {
        self.text(key).parse().unwrap_or(0)
    }
}

/// What boots Linux, ready for [`Guest::start`].
pub struct Prepared {
    /// The machine.
    pub configuration: GuestConfiguration,
    /// Its initial file system; goes with this value.
    archive: Temporary,
}

impl Boot<'_> {
    /// Writes the initial file system.
    ///
    /// # Errors
    ///
    /// A module or file that is not there, or a full disk.
    pub fn prepare(self) -> Result<Prepared, Error> {
        let bytes = initial_file_system(&self)?;
        let archive =
            Temporary::new(env::temp_dir().join(format!("skiff-linux-{}.cpio", std::process::id())))?;
        let path = archive.path().display().to_string();
        fs::write(archive.path(), bytes).map_err(Error::system(format!("cannot write {path}")))?;
        let configuration = GuestConfiguration {
            image: self.kernel.image.clone(),
            unstripped: self.kernel.image.clone(),
            machine: MachineType::Q35,
            firmware: Firmware::Fastest,
            memory: self.memory,
            slots: Vec::new(),
            command_line: "console=ttyS0 quiet loglevel=3 panic=-1".to_owned(),
            extra_arguments: vec!["-initrd".to_owned(), path],
        };
        Ok(Prepared { configuration, archive })
    }
}

/// A Linux that runs.
pub struct Linux {
    /// Its machine.
    pub guest: Guest,
    /// Removed when it ends.
    _archive: Temporary,
}

impl Linux {
    /// Boots. `devices` gives QEMU's arguments for devices behind file descriptors.
    ///
    /// # Errors
    ///
    /// What kept it from being started.
    pub fn boot(
        qemu: &Qemu,
        boot: Boot<'_>,
        devices: impl FnOnce(&mut Descriptors) -> Vec<String>,
    ) -> Result<Self, Error> {
        let Prepared { configuration, archive } = boot.prepare()?;
        let (guest, _) = Guest::start_with(qemu, &configuration, devices)?;
        Ok(Self { guest, _archive: archive })
    }

    /// All reports so far with this word about this plug-in.
    pub fn reports(&mut self, word: &str, plug: u64) -> Vec<Report> {
        reports(self.guest.transcript(), word, plug)
    }

    /// Waits for a report; `between` is called meanwhile.
    ///
    /// # Errors
    ///
    /// Those of [`Guest::wait_until`].
    pub fn wait(
        &mut self,
        word: &str,
        plug: u64,
        limit: Duration,
        between: &mut dyn FnMut(),
    ) -> Result<(), Error> {
        let what = format!("the report `{word}` of plug-in {plug}");
        self.guest.wait_until(&what, limit, None, between, &mut |transcript| {
            !reports(transcript, word, plug).is_empty()
        })
    }
}

fn reports(transcript: &Transcript, word: &str, plug: u64) -> Vec<Report> {
    let reports = transcript.lines().filter_map(Report::parse);
    reports.filter(|report| report.word == word && report.number("plug") == plug).collect()
}

fn initial_file_system(boot: &Boot<'_>) -> Result<Vec<u8>, Error> {
    let mut modules = Modules::new(boot.kernel)?;
    for name in boot.modules {
        modules.choose(name)?;
    }
    let busybox = &boot.kernel.busybox;
    let busybox = fs::read(busybox).map_err(Error::system(format!("cannot read {}", busybox.display())))?;
    let mut archive = Archive::new();
    for folder in FOLDERS {
        archive.folder(folder);
    }
    archive.file("bin/busybox", 0o755, &busybox);
    archive.file("init", 0o755, boot.script.as_bytes());
    let mut order = String::new();
    for (name, bytes) in modules.chosen() {
        archive.file(&format!("lib/modules/{name}.ko"), 0o644, bytes);
        order.push_str(name);
        order.push('\n');
    }
    archive.file("lib/modules/order", 0o644, order.as_bytes());
    let mut folders: BTreeSet<&str> = FOLDERS.into();
    for (path, content) in &boot.files {
        let path = path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            if folders.insert(&path[..end]) {
                archive.folder(&path[..end]);
            }
        }
        archive.file(path, 0o755, content);
    }
    Ok(archive.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_found_within_a_line() {
        let report = Report::parse("[ 1.5] usb: x@oracle ping plug=2 size=56 received=20").unwrap();
        assert_eq!((report.word.as_str(), report.number("plug"), report.text("size")), ("ping", 2, "56"));
        assert_eq!(report.number("nothing"), 0);
        assert_eq!(Report::parse("oracle ping"), None);
    }
}
