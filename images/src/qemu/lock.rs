//! Locks that hold on the whole machine: one QEMU at a time (measured times mean little otherwise, and small machines
//! choke), and one installation of packages at a time.

use std::env;
use std::fs::{File, OpenOptions, TryLockError};

use crate::error::Error;
use crate::progress::Progress;

/// Holds a lock file while it lives. The system gives the lock back when the process ends, however it ends.
pub struct MachineLock {
    _file: File,
}

impl MachineLock {
    /// Waits until no other QEMU of this tool runs.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when the lock file cannot be had.
    pub fn of_qemu() -> Result<Self, Error> {
        Self::take("skiff-qemu.lock", "another QEMU to end")
    }

    /// Waits until nobody else installs packages for this tool.
    ///
    /// # Errors
    ///
    /// As for [`MachineLock::of_qemu`].
    pub fn of_packages() -> Result<Self, Error> {
        Self::take("skiff-packages.lock", "another installation to end")
    }

    fn take(name: &str, event: &str) -> Result<Self, Error> {
        let path = env::temp_dir().join(name);
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
                let waiting = Progress::new("");
                waiting.say(format!("waiting for {event} ({})", path.display()));
                file.lock().map_err(failed())?;
            }
            Err(TryLockError::Error(error)) => return Err(failed()(error)),
        }
        Ok(Self { _file: file })
    }
}
