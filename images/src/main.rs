//! The host tool `skiff`.
fn main() {}
