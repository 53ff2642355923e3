//! Tells the build scripts of applications how an image is linked: a package's link arguments reach only its own
//! binaries, so the kernel hands them on as metadata (`DEP_SKIFF_KERNEL_LINK_ARGUMENTS`).

use std::env;
use std::path::Path;

fn main() {
    let folder = env::var("CARGO_MANIFEST_DIR").expect("cargo sets the manifest folder");
    let script = Path::new(&folder).join("image.ld");
    println!("cargo:rerun-if-changed={}", script.display());
    let script = format!("-T{}", script.display());
    let arguments = [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,norelro",
        "-Wl,--no-dynamic-linker",
        &script,
    ];
    println!("cargo:link_arguments={}", arguments.join("\t"));
}
