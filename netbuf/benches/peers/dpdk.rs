//! DPDK's `rte_mbuf` beside ours: compiled and loaded when the benchmark starts, if the machine has what it takes.
//!
//! Nothing of it is needed to build: without `pkg-config`, a C compiler or libdpdk the peer is skipped with a line.
#![allow(dead_code, reason = "each benchmark uses its part")]

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The loops of `dpdk.c`: each runs an operation as often as told.
pub struct Dpdk {
    pub alloc_free: Loop,
    pub clone_free: Loop,
    pub prepend_adj: Loop,
    pub copy_free: Loop,
}

/// An operation in a loop.
#[derive(Clone, Copy)]
pub struct Loop(unsafe extern "C" fn(u64));

impl Loop {
    /// Runs the operation `count` times.
    pub fn run(self, count: u64) {
        // SAFETY: `Dpdk::load` set DPDK up, on this thread; the loops touch nothing but DPDK's own memory.
        unsafe { (self.0)(count) }
    }
}

impl Dpdk {
    /// Compiles (unless that is done: see [`LIBRARY`]) and loads the loops, and sets DPDK up on this thread.
    ///
    /// # Errors
    ///
    /// What is missing, in a sentence.
    pub fn load() -> Result<Self, String> {
        match std::env::var_os(LIBRARY) {
            Some(library) => Self::open(Path::new(&library)),
            None => {
                let library = compile()?;
                let loops = Self::open(&library);
                // The library stays mapped without its file.
                let _ = std::fs::remove_file(&library);
                loops
            }
        }
    }

    fn open(library: &Path) -> Result<Self, String> {
        let path = CString::new(library.to_string_lossy().into_owned()).map_err(|error| error.to_string())?;
        // SAFETY: the library is the one just compiled; its initialisers are DPDK's.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if handle.is_null() {
            return Err("the library with DPDK's loops does not load".into());
        }
        let symbol = |name: &CStr| {
            // SAFETY: the handle is live, the name is a C string.
            let symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
            if symbol.is_null() {
                Err(format!("no {} in the library", name.to_string_lossy()))
            } else {
                Ok(symbol)
            }
        };
        // SAFETY: `dpdk_setup` is `int (void)` in dpdk.c.
        let setup = unsafe {
            std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn() -> i32>(symbol(c"dpdk_setup")?)
        };
        let a_loop = |name: &CStr| {
            symbol(name).map(|symbol| {
                // SAFETY: the loops are `void (uint64_t)` in dpdk.c.
                Loop(unsafe { std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn(u64)>(symbol) })
            })
        };
        let loops = Self {
            alloc_free: a_loop(c"dpdk_alloc_free")?,
            clone_free: a_loop(c"dpdk_clone_free")?,
            prepend_adj: a_loop(c"dpdk_prepend_adj")?,
            copy_free: a_loop(c"dpdk_copy_free")?,
        };
        // SAFETY: called once, before any loop.
        match unsafe { setup() } {
            0 => Ok(loops),
            code => Err(format!("DPDK's environment could not be set up (step {})", -code)),
        }
    }
}

/// The environment variable with the path of loops that are compiled already: a process that is measured under valgrind
/// should not run a compiler.
pub const LIBRARY: &str = "NETBUF_DPDK_LIBRARY";

/// Compiles the loops to a library of their own.
///
/// # Errors
///
/// What is missing, in a sentence.
pub fn compile() -> Result<PathBuf, String> {
    let flags = Command::new("pkg-config").args(["--cflags", "--libs", "libdpdk"]).output();
    let flags = match flags {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(_) => return Err("pkg-config does not know libdpdk (Debian: libdpdk-dev)".into()),
        Err(error) => return Err(format!("pkg-config does not run: {error}")),
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/dpdk.c");
    let library = std::env::temp_dir().join(format!("netbuf-dpdk-{}.so", std::process::id()));
    let output = Command::new("cc")
        .args(["-O3", "-shared", "-fPIC", "-w", "-o"])
        .arg(&library)
        .arg(&source)
        .args(flags.split_whitespace())
        .output()
        .map_err(|error| format!("cc does not run: {error}"))?;
    if !output.status.success() {
        return Err(format!("dpdk.c does not compile:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(library)
}
