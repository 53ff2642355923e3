//! Register accesses as text, in the form of the golden logs (docs/hardware/rtl8152-traces).

use std::fmt;
use std::str::FromStr;

use crate::register_file::Space;

/// One vendor request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// To the chip.
    pub write: bool,
    /// Address space.
    pub space: Space,
    /// Register address.
    pub address: u16,
    /// Low byte of `wIndex`.
    pub enables: u8,
    /// What was written or answered.
    pub data: Vec<u8>,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (letter, arrow) = if self.write { ('W', ":") } else { ('R', "->") };
        let (space, length) = (self.space.name(), self.data.len());
        write!(f, "{letter}  {space} {:04x} be={:02x} len={length} {arrow}", self.address, self.enables)?;
        if let [a, b, c, d] = self.data[..] {
            write!(f, " {:08x}", u32::from_le_bytes([a, b, c, d]))
        } else {
            self.data.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
        }
    }
}

/// The line is no register access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnAccess;

impl fmt::Display for NotAnAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a register access")
    }
}

impl std::error::Error for NotAnAccess {}

impl FromStr for Access {
    type Err = NotAnAccess;

    fn from_str(line: &str) -> Result<Self, NotAnAccess> {
        // What stands in brackets is a comment.
        let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with('[')).collect();
        let [letter, space, address, enables, length, arrow, values @ ..] = &words[..] else {
            return Err(NotAnAccess);
        };
        let write = match (*letter, *arrow) {
            ("R", "->") => false,
            ("W", ":") => true,
            _ => return Err(NotAnAccess),
        };
        let space = match *space {
            "PLA" => Space::Pla,
            "USB" => Space::Usb,
            _ => return Err(NotAnAccess),
        };
        let hexadecimal = |text: &str| u32::from_str_radix(text, 16).map_err(|_| NotAnAccess);
        let byte = |text: &str| u8::from_str_radix(text, 16).map_err(|_| NotAnAccess);
        let length: usize = length.strip_prefix("len=").and_then(|n| n.parse().ok()).ok_or(NotAnAccess)?;
        let data = match values {
            [dword] if length == 4 => hexadecimal(dword)?.to_le_bytes().to_vec(),
            bytes => bytes.iter().map(|text| byte(text)).collect::<Result<_, _>>()?,
        };
        if data.len() != length {
            return Err(NotAnAccess);
        }
        Ok(Self {
            write,
            space,
            address: u16::from_str_radix(address, 16).map_err(|_| NotAnAccess)?,
            enables: byte(enables.strip_prefix("be=").ok_or(NotAnAccess)?)?,
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_golden_logs_are_read_and_written_alike() {
        for line in [
            "R  PLA e610 be=00 len=4 -> 5c300800",
            "W  USB d494 be=33 len=4 : 0000ffff",
            "W  PLA cd00 be=ff len=8 : 00 00 00 00 80 00 00 00",
        ] {
            assert_eq!(line.parse::<Access>().unwrap().to_string(), line);
        }
        let comment = "R  PLA b420 be=33 len=4 -> 00000003   [PHY-OCP a420/a422]";
        assert_eq!(comment.parse::<Access>().unwrap().data, [3, 0, 0, 0]);
        assert!("== mac: reads=3 writes=4".parse::<Access>().is_err());
    }
}
