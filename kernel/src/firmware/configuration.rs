//! QEMU's firmware configuration device (docs/specs/fw_cfg in QEMU): named files from the command line of the host.

use alloc::string::String;
use alloc::vec;

use x86_64::instructions::port::Port;

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;

const SIGNATURE_ITEM: u16 = 0x00;
const DIRECTORY_ITEM: u16 = 0x19;
const SIGNATURE: [u8; 4] = *b"QEMU";
/// Bytes of a file's name in the directory, filled up with zeroes.
const NAME_LENGTH: usize = 56;
/// Longest file that is read, in bytes.
const FILE_LIMIT: u32 = 4096;
/// Most files looked at; QEMU's own directory has 32 places unless it is told otherwise.
const FILES_LIMIT: u32 = 1024;

fn select(item: u16) {
    // SAFETY: the port belongs to the firmware configuration device or to nobody.
    unsafe { Port::new(SELECTOR).write(item) };
}

fn read(bytes: &mut [u8]) {
    let mut data = Port::<u8>::new(DATA);
    for byte in bytes {
        // SAFETY: as in `select`.
        *byte = unsafe { data.read() };
    }
}

fn read_array<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    read(&mut bytes);
    bytes
}

/// The contents of a file as text; `None` when there is no such device or file.
pub fn file(name: &str) -> Option<String> {
    select(SIGNATURE_ITEM);
    if read_array() != SIGNATURE {
        return None;
    }
    select(DIRECTORY_ITEM);
    let count = u32::from_be_bytes(read_array()).min(FILES_LIMIT);
    for _ in 0..count {
        let size = u32::from_be_bytes(read_array());
        let item = u16::from_be_bytes(read_array());
        let _reserved: [u8; 2] = read_array();
        let entry: [u8; NAME_LENGTH] = read_array();
        if entry.split(|byte| *byte == 0).next() == Some(name.as_bytes()) {
            let mut contents = vec![0; size.min(FILE_LIMIT) as usize];
            select(item);
            read(&mut contents);
            return Some(String::from_utf8_lossy(&contents).into_owned());
        }
    }
    None
}
