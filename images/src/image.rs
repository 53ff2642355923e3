//! Cargo builds the image; the file that boots is cut out of what it linked.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;
use object::{Object, ObjectSection};

use crate::error::Error;
use crate::progress::Progress;

/// The application that images are built from unless another one is asked for.
const APPLICATION: &str = "icmp-responder";

/// The drivers in an image: an appliance for known hardware need not carry the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Drivers {
    /// All that there are
    #[default]
    All,
    /// virtio network cards only: about half the size
    Virtio,
}

impl Drivers {
    /// What tells cargo to build an image with them.
    const fn features(self) -> &'static [&'static str] {
        match self {
            Self::All => &["--features", "image"],
            Self::Virtio => &["--no-default-features", "--features", "image"],
        }
    }

    /// A target directory for each set, so that switching between them builds nothing again.
    fn target_directory(self) -> PathBuf {
        match self {
            Self::All => target_directory(),
            Self::Virtio => target_directory().with_file_name("image-virtio"),
        }
    }
}

/// A built image.
#[derive(Clone, Debug)]
pub struct Image {
    /// What boots.
    pub stripped: PathBuf,
    /// The same with symbols and line numbers.
    pub unstripped: PathBuf,
    /// Length of the stripped file, in bytes.
    pub bytes: u64,
}

/// The root of the workspace that this tool was built in.
#[must_use]
pub fn workspace() -> PathBuf {
    let images = Path::new(env!("CARGO_MANIFEST_DIR"));
    images.parent().unwrap_or(images).to_path_buf()
}

/// Where builds of images go: a target directory of their own, beside or in the workspace's.
#[must_use]
pub fn target_directory() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace().join(target).join("image")
}

/// Builds the image that answers pings, saying on the terminal what is being compiled.
///
/// # Errors
///
/// [`Error::Build`] with the compiler's words, [`Error::System`] when cargo cannot be run.
pub fn build(drivers: Drivers) -> Result<Image, Error> {
    build_application(APPLICATION, drivers)
}

/// Builds the image of another application of the workspace, as [`build`] does.
///
/// # Errors
///
/// As of [`build`].
pub fn build_application(application: &str, drivers: Drivers) -> Result<Image, Error> {
    let target = drivers.target_directory();
    let progress = Progress::new("building the image");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(cargo)
        .current_dir(workspace())
        .args(["build", "--profile", "image", "--package", application])
        .args(drivers.features())
        .arg("--target-dir")
        .arg(&target)
        // The image is linked by rules of its own; flags meant for host programs would spoil it.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| match source.kind() {
            ErrorKind::NotFound => Error::Missing {
                program: "cargo",
                remedy: "the image is built by it; install Rust with rustup, and have it in the path".into(),
            },
            _ => Error::System { action: "cannot run cargo".into(), source },
        })?;
    let (mut messages, mut compiles) = (String::new(), false);
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            // Cargo names what it compiles; where nobody watches, a minute without a word would look like a hang.
            if !compiles && line.trim_start().starts_with("Compiling ") {
                progress.say("building the image".into());
                compiles = true;
            }
            progress.update(format!("building the image: {}", line.trim()));
            messages.push_str(&line);
            messages.push('\n');
        }
    }
    let status = child.wait().map_err(Error::system("cannot wait for cargo"))?;
    if !status.success() {
        return Err(Error::Build(messages));
    }
    let unstripped = target.join("image").join(application);
    let stripped = target.join(format!("{application}.elf"));
    let bytes = write_stripped(&unstripped, &stripped)?;
    Ok(Image { stripped, unstripped, bytes })
}

/// Writes what boots of `unstripped` to `stripped` and returns its length. The file appears whole or not at all: others
/// may be booting the one before.
fn write_stripped(unstripped: &Path, stripped: &Path) -> Result<u64, Error> {
    let failed = |path: &Path| Error::system(format!("cannot write {}", path.display()));
    let elf = fs::read(unstripped).map_err(Error::system(format!("cannot read {}", unstripped.display())))?;
    let bootable = strip(elf).map_err(|problem| Error::Elf { path: unstripped.to_path_buf(), problem })?;
    let length = bootable.len() as u64;
    if fs::read(stripped).is_ok_and(|present| present == bootable) {
        return Ok(length);
    }
    let partial =
        stripped.with_extension(format!("partial-{}-{:?}", std::process::id(), std::thread::current().id()));
    fs::write(&partial, bootable).map_err(failed(&partial))?;
    fs::rename(&partial, stripped).map_err(failed(stripped))?;
    Ok(length)
}

/// Builds the image and writes it to `out`, with these options in it, and the unstripped one beside it as `out.debug`.
///
/// # Errors
///
/// Those of [`build`], [`Error::Usage`] for options that do not fit, and [`Error::System`] when a file cannot be
/// written.
pub fn write(out: &Path, drivers: Drivers, command_line: &str) -> Result<Image, Error> {
    let built = build(drivers)?;
    let mut debug = out.as_os_str().to_owned();
    debug.push(".debug");
    let debug = PathBuf::from(debug);
    let path = &built.unstripped;
    let mut elf = fs::read(path).map_err(Error::system(format!("cannot read {}", path.display())))?;
    let problem = |problem| Error::Elf { path: path.clone(), problem };
    let room = embedded_command_line(&elf).ok_or_else(|| problem("no section for the command line"))?;
    if command_line.len() >= room.len() {
        let limit = room.len() - 1;
        return Err(Error::Usage(format!(
            "--cmdline has {} bytes; an image holds {limit}",
            command_line.len()
        )));
    }
    elf[room.start..][..command_line.len()].copy_from_slice(command_line.as_bytes());
    let stripped = strip(elf.clone()).map_err(problem)?;
    let write = |to: &Path, bytes: &[u8]| {
        fs::write(to, bytes).map_err(Error::system(format!("cannot write {}", to.display())))
    };
    // In this order: where the first cannot be written, nothing is left behind.
    write(out, &stripped)?;
    write(&debug, &elf)?;
    Ok(Image { stripped: out.to_path_buf(), unstripped: debug, bytes: stripped.len() as u64 })
}

/// Where in the file the kernel has room for options.
fn embedded_command_line(elf: &[u8]) -> Option<Range<usize>> {
    let file = object::File::parse(elf).ok()?;
    let (start, length) = file.section_by_name(".skiff.command_line")?.file_range()?;
    let start = usize::try_from(start).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    elf.get(start..end).map(|_| start..end)
}

/// Offsets in a 64-bit little-endian ELF file (System V ABI, "ELF header" and "Program header").
mod elf {
    pub const IDENTIFICATION: &[u8] = b"\x7fELF\x02\x01\x01";
    pub const HEADER_LENGTH: usize = 64;
    pub const PROGRAM_HEADERS: usize = 32;
    pub const SECTION_HEADERS: usize = 40;
    pub const PROGRAM_HEADER_SIZE: usize = 54;
    pub const PROGRAM_HEADER_COUNT: usize = 56;
    pub const SECTION_HEADER_COUNT: usize = 60;
    pub const SECTION_NAMES: usize = 62;
    pub const SEGMENT_OFFSET: usize = 8;
    pub const SEGMENT_FILE_SIZE: usize = 32;
}

/// Keeps what a loader reads: the headers and the segments. Symbols, line numbers and the table of sections stand
/// behind them and are cut off.
fn strip(mut file: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    const TRUNCATED: &str = "the ELF file is truncated";
    if !file.starts_with(elf::IDENTIFICATION) || file.len() < elf::HEADER_LENGTH {
        return Err("not a 64-bit little-endian ELF file");
    }
    let half = |at: usize| -> Option<usize> {
        Some(u16::from_le_bytes(file.get(at..at + 2)?.try_into().ok()?).into())
    };
    let word = |at: usize| -> Option<usize> {
        usize::try_from(u64::from_le_bytes(file.get(at..at.checked_add(8)?)?.try_into().ok()?)).ok()
    };
    let table = word(elf::PROGRAM_HEADERS).ok_or(TRUNCATED)?;
    let entry = half(elf::PROGRAM_HEADER_SIZE).ok_or(TRUNCATED)?;
    let count = half(elf::PROGRAM_HEADER_COUNT).ok_or(TRUNCATED)?;
    let mut end = table.checked_add(entry * count).ok_or(TRUNCATED)?.max(elf::HEADER_LENGTH);
    if end > file.len() {
        return Err(TRUNCATED);
    }
    for index in 0..count {
        let header = table + index * entry;
        let segment = word(header + elf::SEGMENT_OFFSET)
            .zip(word(header + elf::SEGMENT_FILE_SIZE))
            .and_then(|(offset, size)| offset.checked_add(size))
            .ok_or(TRUNCATED)?;
        end = end.max(segment);
    }
    if end > file.len() {
        return Err(TRUNCATED);
    }
    file.truncate(end);
    file[elf::SECTION_HEADERS..elf::SECTION_HEADERS + 8].fill(0);
    file[elf::SECTION_HEADER_COUNT..elf::SECTION_NAMES + 2].fill(0);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file with one segment of 16 bytes at offset 128 and 100 bytes of debug information behind it.
    fn sample() -> Vec<u8> {
        let mut file = vec![0; 244];
        file[..7].copy_from_slice(elf::IDENTIFICATION);
        file[elf::PROGRAM_HEADERS] = 64;
        file[elf::SECTION_HEADERS] = 200;
        file[elf::PROGRAM_HEADER_SIZE] = 56;
        file[elf::PROGRAM_HEADER_COUNT] = 1;
        file[elf::SECTION_HEADER_COUNT] = 3;
        file[elf::SECTION_NAMES] = 2;
        file[64 + elf::SEGMENT_OFFSET] = 128;
        file[64 + elf::SEGMENT_FILE_SIZE] = 16;
        file
    }

    #[test]
    fn only_what_is_loaded_stays() {
        let stripped = strip(sample()).unwrap();
        assert_eq!(stripped.len(), 144);
        assert!(stripped[elf::SECTION_HEADERS..elf::SECTION_HEADERS + 8].iter().all(|byte| *byte == 0));
        assert_eq!(&stripped[elf::SECTION_HEADER_COUNT..64], &[0; 4]);
        assert_eq!(strip(stripped.clone()).unwrap(), stripped, "stripping twice changes nothing");
    }

    #[test]
    fn a_segment_outside_of_the_file_is_an_error() {
        let mut file = sample();
        file[64 + elf::SEGMENT_FILE_SIZE + 7] = 0xff;
        assert!(strip(file).is_err());
        assert!(strip(b"#!/bin/sh".to_vec()).is_err());
    }

    proptest! {
        #[test]
        fn any_damage_is_an_error_or_a_shorter_file(
            place in 0_usize..244, value: u8, length in 0_usize..245,
        ) {
            let mut file = sample();
            file[place] = value;
            file.truncate(length);
            if let Ok(stripped) = strip(file) {
                prop_assert!(stripped.len() <= length);
            }
        }
    }
}
