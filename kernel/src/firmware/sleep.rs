//! How the machine is switched off: the sleep type of state S5.
//!
//! ACPI hides the two numbers in the object `\_S5` of the differentiated system description table, whose byte code would
//! take an interpreter to run. The object is always a package of constants, so it is found by its name and read as
//! data (ACPI 6.5, 7.4.2 and 20.2).

const NAME_OP: u8 = 0x08;
const ROOT: u8 = b'\\';
const PACKAGE_OP: u8 = 0x12;
const ZERO_OP: u8 = 0x00;
const ONE_OP: u8 = 0x01;
const BYTE_PREFIX: u8 = 0x0a;
const WORD_PREFIX: u8 = 0x0b;
const DOUBLE_WORD_PREFIX: u8 = 0x0c;

/// What goes into the field `SLP_TYP` of each of the two power management control registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SleepType {
    /// For PM1a_CNT.
    pub a: u8,
    /// For PM1b_CNT.
    pub b: u8,
}

/// The sleep type of S5, from the byte code of the table; `None` when the object is not there or not a package of constants.
#[must_use]
pub fn soft_off(byte_code: &[u8]) -> Option<SleepType> {
    let name = |window: &[u8]| window == b"_S5_";
    let mut search = 0;
    while let Some(found) = byte_code.get(search..)?.windows(4).position(name) {
        let at = search + found;
        search = at + 4;
        let before = byte_code.get(..at)?;
        let named = matches!(before, [.., NAME_OP] | [.., NAME_OP, ROOT]);
        if let (true, Some(sleep_type)) = (named, package(byte_code.get(at + 4..)?)) {
            return Some(sleep_type);
        }
    }
    None
}

/// Reads the first two elements of a package.
fn package(bytes: &[u8]) -> Option<SleepType> {
    let (PACKAGE_OP, rest) = bytes.split_first().map(|(op, rest)| (*op, rest))? else { return None };
    // The top two bits of the first length byte count the length bytes that follow.
    let (lead, rest) = rest.split_first()?;
    let (elements, rest) = rest.get(usize::from(lead >> 6)..)?.split_first()?;
    let (a, rest) = constant(rest)?;
    let b = if *elements > 1 { constant(rest)?.0 } else { 0 };
    Some(SleepType { a: a & 7, b: b & 7 })
}

/// The low byte of a constant, and what follows it.
fn constant(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (op, rest) = bytes.split_first()?;
    let length = match *op {
        ZERO_OP => return Some((0, rest)),
        ONE_OP => return Some((1, rest)),
        BYTE_PREFIX => 1,
        WORD_PREFIX => 2,
        DOUBLE_WORD_PREFIX => 4,
        _ => return None,
    };
    Some((*rest.first()?, rest.get(length..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn constants_of_every_width_are_read() {
        let sleep = |bytes: &[u8]| soft_off(bytes);
        assert_eq!(
            sleep(b"..\x08_S5_\x12\x06\x04\x00\x01\x00\x00.."),
            Some(SleepType { a: 0, b: 1 }),
            "as QEMU's machines have it"
        );
        assert_eq!(sleep(b"\x08\\_S5_\x12\x08\x02\x0a\x05\x0a\x07"), Some(SleepType { a: 5, b: 7 }));
        assert_eq!(
            sleep(b"\x08_S5_\x12\x40\x08\x02\x0b\x03\x00\x0c\x02\x00\x00\x00"),
            Some(SleepType { a: 3, b: 2 })
        );
    }

    #[test]
    fn a_mention_that_is_no_definition_is_passed_over() {
        let code = b"\x70_S5_\x60\x08_S5_\x12\x06\x04\x0a\x05\x0a\x05\x00\x00";
        assert_eq!(soft_off(code), Some(SleepType { a: 5, b: 5 }));
        assert_eq!(soft_off(b"\x08_S5_\x11\x06\x04"), None);
        assert_eq!(soft_off(b""), None);
    }

    proptest! {
        #[test]
        fn any_byte_code_is_searched_to_its_end(before: Vec<u8>, after: Vec<u8>) {
            let code = [&before[..], b"\x08_S5_", &after].concat();
            if let Some(found) = soft_off(&code) {
                prop_assert!(found.a < 8 && found.b < 8);
            }
        }
    }
}
