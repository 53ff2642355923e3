//! Section 2: checksums, of any range, and the four things a device may know or must do.

use netbuf::{ChecksumStatus, Error, NetBuf, checksum, combine, fold, host, update};

use crate::{buffer, bytes, content};

/// The checksum by definition: big-endian words, the last odd byte padded, carries added at the end.
fn by_definition(bytes: &[u8]) -> u16 {
    let mut sum: u64 = 0;
    for word in bytes.chunks(2) {
        sum += u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[test]
fn skb_checksum_of_any_range_equals_that_of_the_bytes_in_one_piece() {
    let memory = host::memory();
    // Odd lengths everywhere, so that every boundary falls within a word.
    let mut packet = buffer(&memory, &bytes(5, 1), &[&bytes(7, 60), &bytes(1, 120), &bytes(9, 180)]);
    packet.append_to_frag_list(buffer(&memory, &bytes(3, 240), &[&bytes(5, 30)])).unwrap();
    let whole = content(&packet);
    for start in 0..=whole.len() {
        for end in start..=whole.len() {
            let sum = packet.checksum(start..end).unwrap();
            assert_eq!(fold(sum), by_definition(&whole[start..end]), "{start}..{end}");
        }
    }
}

#[test]
fn skb_checksum_past_the_end_is_refused() {
    let packet = buffer(&host::memory(), b"head", &[b"frag"]);
    assert_eq!(packet.checksum(4..9).unwrap_err(), Error::PastEnd { wanted: 9, available: 8 });
    assert!(packet.checksum(9..9).is_err());
    assert!(packet.checksum(0..usize::MAX).is_err());
}

#[test]
fn skb_checksum_of_a_backward_range_does_not_panic() {
    let packet = buffer(&host::memory(), b"head", &[b"frag"]);
    #[expect(clippy::reversed_empty_ranges, reason = "it is what is tried")]
    let sum = packet.checksum(5..2);
    assert!(matches!(sum, Ok(0) | Err(Error::PastEnd { .. })));
}

#[test]
fn checksum_of_long_runs_of_the_largest_words_does_not_overflow() {
    for count in [1, 2, 1400, 65_535, 1 << 20] {
        let bytes = vec![0xff; count];
        assert_eq!(fold(checksum(&bytes, 0)), by_definition(&bytes), "{count} bytes");
    }
    assert_eq!(fold(checksum(&[0, 1], u32::MAX)), fold(1));
}

#[test]
fn sums_of_pieces_combine_at_even_and_odd_offsets() {
    let whole = bytes(40, 3);
    for cut in 0..=whole.len() {
        let (first, second) = whole.split_at(cut);
        let sum = combine(checksum(first, 0), checksum(second, 0), cut);
        assert_eq!(fold(sum), by_definition(&whole), "cut at {cut}");
    }
}

#[test]
fn incremental_update_equals_computing_anew() {
    let mut packet = bytes(20, 1);
    let mut sum = by_definition(&packet);
    for (index, new) in [(0, 0x0000u16), (2, 0xffff), (4, 0x1234), (6, 0xfffe), (6, 0x0001), (18, 0x0800)] {
        let old = u16::from_be_bytes([packet[index], packet[index + 1]]);
        packet[index..index + 2].copy_from_slice(&new.to_be_bytes());
        sum = update(sum, old, new);
        assert_eq!(sum, by_definition(&packet), "word at {index} to {new:#06x}");
    }
}

#[test]
fn nothing_is_known_of_the_checksum_of_a_new_buffer() {
    let memory = host::memory();
    assert_eq!(NetBuf::alloc(&memory, 64).unwrap().checksum_status(), ChecksumStatus::None);
    assert_eq!(NetBuf::rx_alloc(&memory, 64).unwrap().checksum_status(), ChecksumStatus::None);
}

#[test]
fn each_of_the_four_states_survives_every_operation_that_keeps_the_bytes() {
    let memory = host::memory();
    for status in [
        ChecksumStatus::None,
        ChecksumStatus::Unnecessary,
        ChecksumStatus::Complete(0xabcd),
        ChecksumStatus::Partial { start: 20, offset: 16 },
    ] {
        let mut packet = buffer(&memory, &bytes(50, 1), &[&bytes(100, 2)]);
        packet.set_checksum_status(status);
        assert_eq!(packet.checksum_status(), status);
        assert_eq!(packet.copy().unwrap().checksum_status(), status);
        assert_eq!(packet.copy_head().unwrap().checksum_status(), status);
        assert_eq!(packet.clone_buffer().unwrap().checksum_status(), status);
        packet.expand_head(200, 10).unwrap();
        assert_eq!(packet.checksum_status(), status);
        packet.cow(1000).unwrap();
        assert_eq!(packet.checksum_status(), status);
        packet.may_pull(100).unwrap();
        assert_eq!(packet.checksum_status(), status);
        packet.linearize().unwrap();
        assert_eq!(packet.checksum_status(), status);
        assert_eq!(content(&packet), [bytes(50, 1), bytes(100, 2)].concat());
    }
}

#[test]
fn csum_start_and_offset_follow_push_and_pull() {
    let mut packet = NetBuf::rx_alloc(&host::memory(), 128).unwrap();
    packet.put(60).unwrap();
    packet.set_checksum_status(ChecksumStatus::Partial { start: 20, offset: 16 });
    packet.push(14).unwrap();
    assert_eq!(packet.checksum_status(), ChecksumStatus::Partial { start: 34, offset: 16 });
    packet.pull(34).unwrap();
    assert_eq!(packet.checksum_status(), ChecksumStatus::Partial { start: 0, offset: 16 });
    packet.expand_head(64, 0).unwrap();
    packet.push(34).unwrap();
    assert_eq!(packet.checksum_status(), ChecksumStatus::Partial { start: 34, offset: 16 });
}

#[test]
fn csum_start_must_lie_in_the_packet() {
    let mut packet = NetBuf::rx_alloc(&host::memory(), 128).unwrap();
    packet.put(40).unwrap();
    for (start, offset) in [(41, 0), (20, 20), (40, 0), (usize::MAX, 2), (2, usize::MAX)] {
        packet.set_checksum_status(ChecksumStatus::Unnecessary);
        packet.set_checksum_status(ChecksumStatus::Partial { start, offset });
        assert_eq!(packet.checksum_status(), ChecksumStatus::None, "{start} {offset}");
    }
}

#[test]
fn skb_checksum_help_completes_a_partial_checksum_across_odd_frags() {
    let memory = host::memory();
    for linear in [31, 32, 40] {
        let mut packet = buffer(&memory, &bytes(linear, 1), &[&bytes(33, 2), &bytes(21, 3)]);
        // The pseudo header's sum stands in the field.
        packet.store_bits(24 + 2, &0x1357u16.to_be_bytes()).unwrap();
        packet.set_checksum_status(ChecksumStatus::Partial { start: 24, offset: 2 });
        packet.complete_checksum().unwrap();
        assert_eq!(packet.checksum_status(), ChecksumStatus::None);
        // The receiver sums the pseudo header and everything from there on.
        let sum = combine(0x1357, packet.checksum(24..packet.len()).unwrap(), 0);
        assert_eq!(fold(sum), 0, "{linear} linear bytes");
    }
}

#[test]
fn skb_checksum_help_stores_zero_as_its_other_form() {
    // A UDP checksum of zero means "none": so the ones' complement zero is sent as 0xffff.
    let mut packet = NetBuf::alloc(&host::memory(), 64).unwrap();
    packet.put(4).unwrap().copy_from_slice(&[0xff, 0xff, 0, 0]);
    packet.set_checksum_status(ChecksumStatus::Partial { start: 0, offset: 2 });
    packet.complete_checksum().unwrap();
    assert_eq!(packet.data()[2..], [0xff, 0xff]);
}

#[test]
fn skb_checksum_help_of_a_clone_is_refused() {
    let memory = host::memory();
    let mut packet = buffer(&memory, &bytes(40, 1), &[]);
    packet.set_checksum_status(ChecksumStatus::Partial { start: 20, offset: 2 });
    let clone = packet.clone_buffer().unwrap();
    assert_eq!(packet.complete_checksum().unwrap_err(), Error::Shared);
    assert_eq!(packet.checksum_status(), ChecksumStatus::Partial { start: 20, offset: 2 });
    drop(clone);
    packet.complete_checksum().unwrap();
}

#[test]
fn skb_pull_rcsum_keeps_a_complete_checksum_right() {
    let memory = host::memory();
    for count in 0..=20 {
        let mut packet = buffer(&memory, &bytes(20, 1), &[&bytes(31, 2)]);
        packet.set_checksum_status(ChecksumStatus::Complete(packet.checksum(0..51).unwrap()));
        packet.pull_checksummed(count).unwrap();
        let ChecksumStatus::Complete(sum) = packet.checksum_status() else { panic!("no longer complete") };
        assert_eq!(fold(sum), fold(packet.checksum(0..packet.len()).unwrap()), "pulled {count}");
    }
    let mut packet = buffer(&memory, b"head", &[b"frag"]);
    assert_eq!(packet.pull_checksummed(5).unwrap_err(), Error::PastEnd { wanted: 5, available: 4 });
}

#[test]
fn skb_push_rcsum_and_pskb_trim_rcsum_keep_a_complete_checksum_right() {
    let memory = host::memory();
    let right = |packet: &NetBuf, what: &str| {
        let ChecksumStatus::Complete(sum) = packet.checksum_status() else { panic!("no longer complete") };
        let anew = packet.checksum(0..packet.len()).unwrap();
        assert_eq!(fold(sum) % 0xffff, fold(anew) % 0xffff, "{what}, where 0 and 0xffff are both zero");
    };
    for count in 0..=51 {
        let mut packet = buffer(&memory, &bytes(20, 1), &[&bytes(31, 2)]);
        packet.set_checksum_status(ChecksumStatus::Complete(packet.checksum(0..51).unwrap()));
        packet.trim_checksummed(count).unwrap();
        assert_eq!(packet.len(), count);
        right(&packet, &format!("trimmed to {count}"));
        packet.push_checksummed(&bytes(count, 3)).unwrap();
        assert_eq!(packet.data()[..count], bytes(count, 3));
        right(&packet, &format!("pushed {count}"));
    }
    // Other states pass through.
    let mut packet = buffer(&memory, &bytes(40, 1), &[]);
    packet.set_checksum_status(ChecksumStatus::Partial { start: 20, offset: 2 });
    packet.push_checksummed(b"ab").unwrap();
    packet.trim_checksummed(30).unwrap();
    assert_eq!(packet.checksum_status(), ChecksumStatus::Partial { start: 22, offset: 2 });
    assert_eq!(
        packet.push_checksummed(&[0; 100]).unwrap_err(),
        Error::Headroom { wanted: 100, available: 62 }
    );
}

#[test]
fn a_partial_checksum_whose_place_is_trimmed_off_is_none() {
    let memory = host::memory();
    let mut packet = buffer(&memory, &bytes(20, 1), &[&bytes(20, 2)]);
    packet.set_checksum_status(ChecksumStatus::Partial { start: 20, offset: 6 });
    packet.trim(28).unwrap();
    assert_eq!(packet.checksum_status(), ChecksumStatus::Partial { start: 20, offset: 6 });
    packet.trim(27).unwrap();
    assert_eq!(packet.checksum_status(), ChecksumStatus::None);
    assert_eq!(packet.complete_checksum(), Ok(()));
}

#[test]
fn skb_checksum_help_into_a_page_with_other_readers_is_refused() {
    let memory = host::memory();
    let mut packet = buffer(&memory, &bytes(20, 1), &[&bytes(20, 2)]);
    packet.set_checksum_status(ChecksumStatus::Partial { start: 20, offset: 6 });
    let reader = packet.frag_block(0).unwrap();
    assert_eq!(packet.complete_checksum().unwrap_err(), Error::Shared);
    assert_eq!(packet.checksum_status(), ChecksumStatus::Partial { start: 20, offset: 6 });
    drop(reader);
    packet.complete_checksum().unwrap();
}
