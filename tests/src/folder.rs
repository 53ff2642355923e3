//! A folder that goes with its test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// An empty folder of one's own, which other users may look into; removed with everything in it when dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one; `purpose` is part of its name.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    pub fn new(purpose: &str) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("skiff-{purpose}-{}-{number}", process::id()));
        fs::create_dir_all(&path).expect("a folder can be made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The place of something in it, for a command line.
    ///
    /// # Panics
    ///
    /// When the path of temporary files is not UTF-8.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).into_os_string().into_string().expect("the path is UTF-8")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing is lost when it stays.
        let _ = fs::remove_dir_all(&self.0);
    }
}
