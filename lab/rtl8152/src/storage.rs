//! The virtual CD-ROM `0bda:8151` that some adapters are until somebody ejects it: USB mass storage, bulk-only
//! transport, as few SCSI commands as a host needs to find a disc drive with nothing readable in it.

use std::collections::VecDeque;

const COMMAND_WRAPPER: usize = 31;

/// The drive.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    /// Transfers ready for the host.
    answers: VecDeque<Vec<u8>>,
    /// Data bytes from the host still to be ignored before the status.
    swallow: usize,
    status: Vec<u8>,
}

impl Storage {
    /// Bus reset or bulk-only reset.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes a bulk OUT transfer. True: the medium was ejected, the adapter comes next.
    pub fn bulk_out(&mut self, data: &[u8]) -> bool {
        if self.swallow > 0 {
            self.swallow = self.swallow.saturating_sub(data.len());
            if self.swallow == 0 {
                self.answers.push_back(std::mem::take(&mut self.status));
            }
            return false;
        }
        if data.len() != COMMAND_WRAPPER || &data[..4] != b"USBC" {
            return false;
        }
        let length = u32::from_le_bytes([data[8], data[9], data[10], data[11]]) as usize;
        let to_host = data[12] & 0x80 != 0;
        let command = &data[15..];
        let answer = answer(command);
        // START STOP UNIT that ejects, or the vendor's command to switch (fact sheet rtl8152.md, section 1.1).
        let ejected = command[0] == 0x1b && command[4] & 0b11 == 0b10 || command[0] == 0xe0;
        let mut status = b"USBS".to_vec();
        status.extend(&data[4..8]);
        let moved = if to_host { answer.as_ref().map_or(0, |a| a.len().min(length)) } else { 0 };
        status.extend(((length - moved) as u32).to_le_bytes());
        status.push(u8::from(answer.is_none()));
        if length > 0 && to_host {
            let mut answer = answer.unwrap_or_default();
            answer.truncate(length);
            self.answers.push_back(answer);
        }
        if length > 0 && !to_host {
            self.swallow = length;
            self.status = status;
        } else {
            self.answers.push_back(status);
        }
        ejected
    }

    /// The next transfer for the host.
    pub fn bulk_in(&mut self) -> Option<Vec<u8>> {
        self.answers.pop_front()
    }
}

/// What a SCSI command returns; `None`: it fails.
fn answer(command: &[u8]) -> Option<Vec<u8>> {
    match command[0] {
        // REQUEST SENSE: not ready, medium not present.
        0x03 => {
            let mut sense = vec![0; 18];
            (sense[0], sense[2], sense[7], sense[12]) = (0x70, 0x02, 10, 0x3a);
            Some(sense)
        }
        // INQUIRY: a removable CD-ROM.
        0x12 => {
            let mut inquiry = vec![0x05, 0x80, 0x00, 0x01, 31, 0, 0, 0];
            inquiry.extend(b"Realtek USB CD-ROM      2.00");
            Some(inquiry)
        }
        // START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL.
        0x1b | 0x1e => Some(Vec::new()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapper(length: u32, flags: u8, command: &[u8]) -> Vec<u8> {
        let mut bytes = b"USBC\x01\x02\x03\x04".to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend([flags, 0, command.len() as u8]);
        bytes.extend(command);
        bytes.resize(COMMAND_WRAPPER, 0);
        bytes
    }

    #[test]
    fn a_drive_without_a_disc_is_there_until_it_is_ejected() {
        let mut drive = Storage::default();
        assert!(!drive.bulk_out(&wrapper(36, 0x80, &[0x12, 0, 0, 0, 36, 0])));
        assert_eq!(drive.bulk_in().unwrap()[0], 5);
        assert_eq!(drive.bulk_in().unwrap(), b"USBS\x01\x02\x03\x04\0\0\0\0\0");
        assert!(!drive.bulk_out(&wrapper(0, 0, &[0x00])));
        assert_eq!(drive.bulk_in().unwrap()[12], 1);
        assert!(drive.bulk_out(&wrapper(0, 0, &[0x1b, 0, 0, 0, 2, 0])));
        assert_eq!(drive.bulk_in().unwrap()[12], 0);
        assert!(drive.bulk_in().is_none());
    }

    #[test]
    fn no_wrapper_however_odd_is_a_panic() {
        let mut drive = Storage::default();
        for length in 0..64 {
            drive.bulk_out(&vec![0xff; length]);
            drive.bulk_out(&wrapper(u32::MAX, 0x80, &[0x12]));
            drive.clear();
        }
    }
}
