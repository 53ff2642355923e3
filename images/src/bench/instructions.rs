//! Executed guest instructions, counted by a QEMU plugin: a figure that repeats on a busy machine, where times do not.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::image::target_directory;
use crate::qemu::Qemu;
use crate::temporary::Temporary;

const SOURCE: &str = include_str!("instruction_count.c");

/// The plugin, compiled, and the file it counts in; the file goes with this value.
pub struct InstructionCounter {
    plugin: PathBuf,
    count: Temporary,
}

impl InstructionCounter {
    /// Compiles the plugin for this QEMU.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] without a C compiler, [`Error::Build`] when it does not compile.
    pub fn build(qemu: &Qemu) -> Result<Self, Error> {
        let folder = target_directory();
        fs::create_dir_all(&folder).map_err(Error::system(format!("cannot make {}", folder.display())))?;
        let source = folder.join("instruction_count.c");
        let plugin = folder.join("instruction_count.so");
        fs::write(&source, SOURCE).map_err(Error::system(format!("cannot write {}", source.display())))?;
        // QEMU refuses plugins of an interface older than the oldest it supports, which is 2 since 9.0.
        let version = if qemu.version >= (9, 0) { 2 } else { 1 };
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", &format!("-DAPI_VERSION={version}"), "-o"])
            .arg(&plugin)
            .arg(&source)
            .stdin(Stdio::null())
            .output()
            .map_err(|_| Error::Missing {
                program: "cc",
                remedy: "install a C compiler (apt install gcc)".into(),
            })?;
        if !output.status.success() {
            return Err(Error::Build(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let count =
            Temporary::new(env::temp_dir().join(format!("skiff-instructions-{}", std::process::id())))?;
        Ok(Self { plugin, count })
    }

    /// The arguments that make QEMU count.
    #[must_use]
    pub fn qemu_arguments(&self) -> Vec<String> {
        let (plugin, count) = (self.plugin.display(), self.count.path().display());
        vec!["-plugin".into(), format!("file={plugin},out={count}")]
    }

    /// Opens the count of a guest that runs.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when QEMU has not made it.
    pub fn open(&self) -> Result<InstructionCount, Error> {
        let path = self.count.path();
        File::open(path)
            .map(InstructionCount)
            .map_err(Error::system(format!("QEMU counts no instructions in {}", path.display())))
    }
}

/// The count of one guest.
pub struct InstructionCount(File);

impl InstructionCount {
    /// Instructions executed since QEMU was started.
    ///
    /// # Errors
    ///
    /// Of the system.
    pub fn read(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, 0)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}
