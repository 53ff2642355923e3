//! Files that go when their owner goes, and when a signal ends this process.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::error::Error;
use crate::stop;

/// A file that somebody else may make, or has made.
#[derive(Debug)]
pub struct Temporary(PathBuf);

/// All that there are.
struct Files {
    paths: BTreeSet<PathBuf>,
    /// A thread waits for signals.
    watched: bool,
}

static FILES: Mutex<Files> = Mutex::new(Files { paths: BTreeSet::new(), watched: false });

fn files() -> MutexGuard<'static, Files> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Temporary {
    /// Takes responsibility for the file at this path, which need not exist yet.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when signals cannot be waited for.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let mut files = files();
        if !files.watched {
            watch().map_err(Error::system("cannot install signal handlers"))?;
            files.watched = true;
        }
        files.paths.insert(path.clone());
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        files().paths.remove(&self.0);
        // It may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}

/// From now on the signals that end this process remove the files first.
fn watch() -> io::Result<()> {
    let mut signals = Signals::new(stop::signals())?;
    thread::spawn(move || {
        for signal in signals.forever() {
            for path in &files().paths {
                let _ = fs::remove_file(path);
            }
            // Ends this process as if nobody had waited for the signal.
            let _ = emulate_default_handler(signal);
        }
    });
    Ok(())
}
