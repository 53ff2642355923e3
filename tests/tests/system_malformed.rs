//! Frames that no honest host sends never crash the image, and each of them is counted.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

use std::net::Ipv4Addr;
use std::time::Duration;

use images::nic::Nic;
use images::wired::WiredGuest;
use lab_wire::host::echo_request_frame;
use skiff_tests::guest::{boot, configuration, drops, ping, power_off};

/// Frames are injected in such batches, each followed by pings: a batch must not overflow the card's ring.
const BATCH: usize = 64;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const ICMP: usize = 8;

/// A sound echo request of this host to the guest's first card, 32 bytes of data.
fn sound_frame(guest: &mut WiredGuest) -> Vec<u8> {
    let destination = guest.address(0).unwrap();
    let station = guest.hosts[0].resolve(destination, Duration::from_secs(30)).unwrap().unwrap();
    let ours = guest.hosts[0].configuration().clone();
    echo_request_frame((ours.mac, station), (ours.address, destination), 1, 1, &[0x5a; 32]).unwrap()
}

/// Sets the IPv4 header checksum right again after a change.
fn mend_ipv4_checksum(frame: &mut [u8]) {
    frame[ETHERNET + 10..ETHERNET + 12].fill(0);
    let header = frame[ETHERNET..ETHERNET + IPV4].chunks(2);
    let mut sum: u32 = header.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !u16::try_from(sum).unwrap();
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&checksum.to_be_bytes());
}

/// Injects all, batch by batch, proving after each that the guest still answers; then compares the drops that the guest
/// counted with what was injected.
fn all_are_dropped_and_counted(mut guest: WiredGuest, frames: &[Vec<u8>]) {
    let mut pings = 0;
    for batch in frames.chunks(BATCH) {
        for frame in batch {
            guest.hosts[0].inject(frame).unwrap();
        }
        ping(&mut guest, 2, 56, 1);
        pings += 2;
    }
    let counters = &power_off(guest)[0];
    assert_eq!(counters["echo_replies"], pings, "none of the malformed was answered: {counters:?}");
    assert_eq!(drops(counters), frames.len() as u64, "each was counted, once: {counters:?}");
}

#[test]
fn a_request_cut_at_each_byte_is_dropped_and_counted() {
    let mut guest = boot(&configuration(&[Nic::Virtio]));
    let frame = sound_frame(&mut guest);
    // Cut in the data, the IPv4 length no longer fits the frame: also malformed.
    let frames: Vec<Vec<u8>> = (1..frame.len()).map(|length| frame[..length].to_vec()).collect();
    all_are_dropped_and_counted(guest, &frames);
}

#[test]
fn headers_that_contradict_themselves_are_dropped_and_counted() {
    let mut guest = boot(&configuration(&[Nic::Virtio]));
    let sound = sound_frame(&mut guest);
    let spoilt = |spoil: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = sound.clone();
        spoil(&mut frame);
        mend_ipv4_checksum(&mut frame);
        frame
    };
    let mut frames = Vec::new();
    for version in (0..16).filter(|version| *version != 4) {
        frames.push(spoilt(&|frame| frame[ETHERNET] = version << 4 | 5));
    }
    for words in 0..5 {
        frames.push(spoilt(&|frame| frame[ETHERNET] = 4 << 4 | words));
    }
    for length in (0..(IPV4 + ICMP) as u16).chain([61, 1500, 0xffff]) {
        frames
            .push(spoilt(&|frame| frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&length.to_be_bytes())));
    }
    for source in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255], [10, 0, 0, 255]] {
        frames.push(spoilt(&|frame| frame[ETHERNET + 12..ETHERNET + 16].copy_from_slice(&source)));
    }
    frames.push(spoilt(&|frame| frame[ETHERNET + 16..ETHERNET + 20].copy_from_slice(&[10, 0, 0, 200])));
    all_are_dropped_and_counted(guest, &frames);
}

#[test]
fn wrong_checksums_are_dropped_and_counted() {
    let mut guest = boot(&configuration(&[Nic::Virtio]));
    let sound = sound_frame(&mut guest);
    let mut frames = Vec::new();
    for place in
        [ETHERNET + 10, ETHERNET + 11, ETHERNET + IPV4 + 2, ETHERNET + IPV4 + 3, ETHERNET + IPV4 + ICMP]
    {
        for bit in 0..8 {
            let mut frame = sound.clone();
            frame[place] ^= 1 << bit;
            frames.push(frame);
        }
    }
    all_are_dropped_and_counted(guest, &frames);
}

#[test]
fn a_unicast_request_in_a_link_layer_broadcast_is_dropped_and_counted() {
    let mut guest = boot(&configuration(&[Nic::Virtio]));
    let mut frame = sound_frame(&mut guest);
    frame[..6].fill(0xff);
    all_are_dropped_and_counted(guest, &[frame]);
}

#[test]
fn noise_of_any_length_does_not_stop_the_guest() {
    let mut guest = boot(&configuration(&[Nic::Virtio]));
    let station = sound_frame(&mut guest)[..6].to_vec();
    // A fixed sequence (xorshift), so that what fails once fails again.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for batch in 0..20 {
        for _ in 0..BATCH {
            let length = 1 + (next() % 1514) as usize;
            let mut frame: Vec<u8> = (0..length).map(|_| next() as u8).collect();
            // Half of them reach further in: to the guest's address, as IPv4 or ARP, some with sound headers.
            if batch % 2 == 0 && length > 40 {
                frame[..6].copy_from_slice(&station);
                frame[12..14].copy_from_slice(if next() % 4 == 0 { &[8, 6] } else { &[8, 0] });
                frame[ETHERNET] = 0x45;
                let total = ((length - ETHERNET) as u16).to_be_bytes();
                frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&total);
                frame[ETHERNET + 12..ETHERNET + 20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
                mend_ipv4_checksum(&mut frame);
            }
            guest.hosts[0].inject(&frame).unwrap();
        }
        ping(&mut guest, 2, 56, 1);
    }
    let address = guest.address(0);
    assert_eq!(address, Some(Ipv4Addr::new(10, 0, 0, 2)), "noise does not move the address");
    power_off(guest);
}
