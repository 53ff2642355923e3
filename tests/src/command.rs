//! The program `skiff`, run as a user runs it.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use images::image::workspace;

/// A command that runs `skiff`, built when it has changed.
///
/// # Panics
///
/// When it does not build.
#[must_use]
pub fn skiff() -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    Command::new(BUILT.get_or_init(build))
}

fn build() -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(workspace())
        .args(["build", "--quiet", "--package", "skiff-images", "--bin", "skiff"])
        .stdin(Stdio::null())
        .status()
        .expect("cargo runs");
    assert!(status.success(), "skiff does not build");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace().join(target).join("debug").join("skiff")
}
