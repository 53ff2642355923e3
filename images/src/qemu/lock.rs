//! One QEMU at a time on this machine: measured times mean little otherwise, and small machines choke.

use std::env;
use std::fs::{File, OpenOptions, TryLockError};

use crate::error::Error;
use crate::progress::Progress;

/// Holds the lock file while it lives. The system gives the lock back when the process ends, however it ends.
pub struct QemuLock {
    _file: File,
}

impl QemuLock {
    /// Waits until no other QEMU of this tool runs.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when the lock file cannot be had.
    pub fn take() -> Result<Self, Error> {
        let path = env::temp_dir().join("skiff-qemu.lock");
        let failed = || Error::system(format!("cannot lock {}", path.display()));
        // Another user's file can be read only, and that is enough for a lock.
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .or_else(|_| File::open(&path))
            .map_err(failed())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let _waiting = Progress::new(format!("waiting for another QEMU to end ({})", path.display()));
                file.lock().map_err(failed())?;
            }
            Err(TryLockError::Error(error)) => return Err(failed()(error)),
        }
        Ok(Self { _file: file })
    }
}
