//! Links the image as the kernel asks.

use std::env;

fn main() {
    if env::var_os("CARGO_FEATURE_IMAGE").is_some() {
        let arguments =
            env::var("DEP_SKIFF_KERNEL_LINK_ARGUMENTS").expect("the kernel names its link arguments");
        for argument in arguments.split('\t') {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}
