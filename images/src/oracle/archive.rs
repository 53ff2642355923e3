//! An initial RAM file system: a cpio archive in the "new ASCII" format, as Linux unpacks it (its documentation:
//! driver-api/early-userspace/buffer-format).
//!
//! It is left uncompressed: under emulation that boots faster.

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const SYMBOLIC_LINK: u32 = 0o120_777;
/// Everything in the archive starts at a multiple of this.
const ALIGNMENT: usize = 4;

/// An archive under construction. Paths are relative to the root and have no leading slash; folders come first.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// An empty archive.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: &str) {
        self.entry(path, DIRECTORY, &[]);
    }

    /// Adds a file with these permission bits.
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.entry(path, REGULAR | permissions, content);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, SYMBOLIC_LINK, target.as_bytes());
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        let (inode, size, name_size) = (self.entries, content.len(), path.len() + 1);
        // Magic, inode, mode, user, group, links, time, size, device (2), special device (2), name size, checksum.
        let header = format!(
            "070701{inode:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{name_size:08x}{:08x}",
            0, 0, 0, 0, 0, 0, 0, 0
        );
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }

    /// The finished archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_end_with_the_trailer() {
        let mut archive = Archive::new();
        archive.folder("bin");
        archive.file("bin/a", 0o755, b"hello");
        archive.link("init", "bin/a");
        let bytes = archive.finish();
        assert!(bytes.len().is_multiple_of(ALIGNMENT));
        let headers: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"070701")).collect();
        assert_eq!(headers.len(), 4);
        assert!(headers.iter().all(|at| at.is_multiple_of(ALIGNMENT)));
        // Size and name size of the file, in hexadecimal at their fixed places.
        let file = &bytes[headers[1]..];
        assert_eq!((&file[54..62], &file[94..102]), (&b"00000005"[..], &b"00000006"[..]));
        assert_eq!(&file[110..116], b"bin/a\0");
        assert_eq!(&file[116..121], b"hello");
    }
}
