//! The descriptor parser: well-formed descriptors give what they say, anything else gives something harmless.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;
use usb::configuration::{Companion, Configuration, MAXIMUM_SETTINGS, Oddity, TransferKind};
use usb::descriptor::{self, DescriptorError, DeviceDescriptor, HubDescriptor, descriptors, string_text};
use usb::{EndpointAddress, Speed};

const SPEEDS: [Speed; 5] = [Speed::Low, Speed::Full, Speed::High, Speed::Super, Speed::SuperPlus];

/// A configuration with one interface, from parts.
fn configuration(parts: &[&[u8]]) -> Vec<u8> {
    let body: Vec<u8> = parts.concat();
    let interfaces = parts.iter().filter(|part| part.get(1) == Some(&4) && part.get(3) == Some(&0)).count();
    let [low, high] = ((9 + body.len()) as u16).to_le_bytes();
    let mut bytes = vec![9, 2, low, high, interfaces as u8, 1, 0, 0x80, 50];
    bytes.extend(body);
    bytes
}

const INTERFACE: [u8; 9] = [9, 4, 0, 0, 2, 0xff, 0xff, 0, 0];
const BULK_IN: [u8; 7] = [7, 5, 0x81, 2, 0x00, 0x02, 0];
const BULK_OUT: [u8; 7] = [7, 5, 0x02, 2, 0x00, 0x02, 0];
const COMPANION: [u8; 6] = [6, 0x30, 3, 0, 0, 0];

#[test]
fn a_vendor_configuration_gives_its_endpoints() {
    let bytes = configuration(&[&INTERFACE, &BULK_IN, &BULK_OUT]);
    let parsed = Configuration::parse(&bytes, Speed::High).unwrap();
    assert_eq!(parsed.oddities, []);
    let setting = parsed.setting(0, 0).unwrap();
    let endpoint = setting.endpoint(TransferKind::Bulk, true).unwrap();
    assert_eq!((endpoint.address, endpoint.maximum_packet_size), (EndpointAddress(0x81), 512));
    assert_eq!(setting.endpoint(TransferKind::Bulk, false).unwrap().address, EndpointAddress(2));
    assert_eq!(setting.endpoint(TransferKind::Interrupt, true), None);
}

#[test]
fn companions_count_only_at_superspeed_and_only_once() {
    let bytes = configuration(&[&INTERFACE, &[7, 5, 0x81, 2, 0, 4, 0], &COMPANION, &[6, 0x30, 9, 0, 0, 0]]);
    let burst = |speed| {
        let parsed = Configuration::parse(&bytes, speed).unwrap();
        parsed.settings[0].endpoints[0].companion
    };
    let expected = Companion { maximum_burst: 3, ..Companion::default() };
    assert_eq!(burst(Speed::Super), Some(expected));
    assert_eq!(burst(Speed::High), None);
}

#[test]
fn class_specific_descriptors_stay_with_their_interface() {
    let union = [5, 0x24, 6, 0, 1];
    let header = [5, 0x24, 0, 0x10, 1];
    let bytes = configuration(&[&[9, 4, 0, 0, 1, 2, 6, 0, 0], &header, &union, &BULK_IN]);
    let parsed = Configuration::parse(&bytes, Speed::High).unwrap();
    assert_eq!(parsed.settings[0].extras, [header, union].concat());
    let kinds: Vec<_> = descriptors(&parsed.settings[0].extras).map(|raw| (raw.kind, raw.byte(2))).collect();
    assert_eq!(kinds, [(0x24, 0), (0x24, 6)]);
}

#[test]
fn what_is_malformed_is_left_out_and_named() {
    let zero_size = [7, 5, 0x83, 3, 0, 0, 1];
    let number_zero = [7, 5, 0x80, 2, 0, 2, 0];
    let short = [5, 5, 0x84, 2, 0];
    let bytes = configuration(&[&BULK_OUT, &INTERFACE, &BULK_IN, &BULK_IN, &zero_size, &number_zero, &short]);
    let parsed = Configuration::parse(&bytes, Speed::High).unwrap();
    assert_eq!(parsed.settings[0].endpoints.len(), 1);
    assert_eq!(
        parsed.oddities,
        [
            Oddity::StrayEndpoint(0x02),
            Oddity::DuplicateEndpoint(0x81),
            Oddity::NoPacketSize(0x83),
            Oddity::EndpointAddress(0x80),
            Oddity::ShortDescriptor { kind: 5, length: 5 },
        ]
    );
}

#[test]
fn packet_sizes_are_cut_to_the_speed() {
    // What QEMU's full-speed hub makes of a SuperSpeed adapter behind it.
    let bytes = configuration(&[&INTERFACE, &[7, 5, 0x81, 2, 0, 4, 0], &[7, 5, 0x82, 3, 0xff, 0xff, 8]]);
    let sizes = |speed| {
        let parsed = Configuration::parse(&bytes, speed).unwrap();
        let endpoints = &parsed.settings[0].endpoints;
        endpoints.iter().map(|endpoint| endpoint.maximum_packet_size).collect::<Vec<_>>()
    };
    assert_eq!(sizes(Speed::Full), [64, 64]);
    assert_eq!(sizes(Speed::High), [512, 1024]);
    assert_eq!(sizes(Speed::Super), [1024, 1024]);
}

#[test]
fn a_zero_length_ends_the_walk() {
    let bytes = configuration(&[&INTERFACE, &BULK_IN, &[0, 0, 0, 0], &BULK_OUT]);
    let parsed = Configuration::parse(&bytes, Speed::High).unwrap();
    assert_eq!(parsed.settings[0].endpoints.len(), 1);
    assert_eq!(parsed.oddities, [Oddity::BadChain { remaining: 11 }]);
}

#[test]
fn an_endpoint_of_another_interface_is_taken_but_one_of_another_setting_is_not() {
    let second = [9, 4, 1, 0, 1, 0xff, 0, 0, 0];
    let alternate = [9, 4, 0, 1, 1, 0xff, 0, 0, 0];
    let bytes = configuration(&[&INTERFACE, &BULK_IN, &second, &BULK_IN, &alternate, &BULK_IN]);
    let parsed = Configuration::parse(&bytes, Speed::High).unwrap();
    let counts: Vec<_> = parsed.settings.iter().map(|setting| setting.endpoints.len()).collect();
    assert_eq!(counts, [1, 0, 1]);
}

#[test]
fn control_packet_sizes_follow_the_speed() {
    let sizes = |speed| {
        (0..=u8::MAX)
            .filter_map(|field| descriptor::control_packet_size(speed, field).ok())
            .collect::<Vec<_>>()
    };
    assert_eq!(sizes(Speed::Low), [8]);
    assert_eq!(sizes(Speed::Full), [8, 16, 32, 64]);
    assert_eq!(sizes(Speed::High), [64]);
    assert_eq!(sizes(Speed::Super), [512]);
}

#[test]
fn strings_lose_control_characters_and_broken_surrogates() {
    let text = |units: &[u16]| {
        let mut bytes = vec![2 + 2 * units.len() as u8, 3];
        units.iter().for_each(|unit| bytes.extend(unit.to_le_bytes()));
        string_text(&bytes).unwrap()
    };
    assert_eq!(text(&[0x41, 0x1b, 0x42]), "A\u{fffd}B");
    assert_eq!(text(&[0xd800, 0x43]), "\u{fffd}C");
    assert_eq!(text(&[]), "");
    assert_eq!(string_text(&[200, 3, 0x41, 0]).unwrap(), "A");
    assert_eq!(string_text(&[4, 2, 0x41, 0]), Err(DescriptorError::WrongKind { expected: 3, found: 2 }));
}

/// What a hostile configuration must not lead to.
fn check_harmless(parsed: &Configuration, speed: Speed) {
    assert!(parsed.settings.len() <= MAXIMUM_SETTINGS);
    assert!(parsed.oddities.len() <= 16);
    for setting in &parsed.settings {
        for endpoint in &setting.endpoints {
            assert!((1..=15).contains(&endpoint.address.number()));
            assert_eq!(endpoint.address.0 & 0x70, 0);
            assert!(endpoint.maximum_packet_size <= 1024);
            assert!(endpoint.maximum_packet_size > 0 || endpoint.kind == TransferKind::Isochronous);
            assert!(endpoint.additional_transactions <= 2);
            assert!(endpoint.companion.is_none() || speed >= Speed::Super);
        }
        let mut addresses: Vec<_> = setting.endpoints.iter().map(|endpoint| endpoint.address).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), setting.endpoints.len());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_to_something_harmless(bytes in prop::collection::vec(any::<u8>(), 0..400), speed in 0..5_usize) {
        let speed = SPEEDS[speed];
        let _ = DeviceDescriptor::parse(&bytes);
        let _ = HubDescriptor::parse(&bytes, speed >= Speed::Super);
        let _ = string_text(&bytes);
        prop_assert!(descriptors(&bytes).map(|raw| raw.bytes.len()).sum::<usize>() <= bytes.len());
        if let Ok(parsed) = Configuration::parse(&bytes, speed) {
            check_harmless(&parsed, speed);
        }
    }

    /// Chains that look right at first: proper types, lengths off by a little, fields at random.
    #[test]
    fn nearly_right_chains_are_parsed_to_something_harmless(
        chain in prop::collection::vec((prop::sample::select(vec![2_u8, 4, 4, 5, 5, 5, 0x24, 0x30, 11]), 0..12_u8, any::<[u8; 12]>()), 0..60),
        total in prop::option::of(any::<u16>()),
        speed in 0..5_usize,
    ) {
        let mut bytes = vec![9, 2, 0, 0, 1, 1, 0, 0x80, 50];
        for (kind, length, body) in chain {
            let usual = match kind { 4 | 2 => 9, 5 => 7, 0x30 => 6, _ => 5 };
            let length = if length < 3 { length } else { usual };
            bytes.extend([length, kind]);
            bytes.extend(&body[..usize::from(length.saturating_sub(2))]);
        }
        let [low, high] = total.unwrap_or(bytes.len() as u16).to_le_bytes();
        (bytes[2], bytes[3]) = (low, high);
        let speed = SPEEDS[speed];
        if let Ok(parsed) = Configuration::parse(&bytes, speed) {
            check_harmless(&parsed, speed);
        }
    }

    #[test]
    fn a_well_formed_configuration_survives_truncation_at_any_byte(cut in 0..47_usize) {
        let bytes = configuration(&[&INTERFACE, &[7, 5, 0x81, 2, 0, 4, 0], &COMPANION, &[7, 5, 2, 2, 0, 4, 0], &COMPANION]);
        let whole = Configuration::parse(&bytes, Speed::Super).unwrap();
        match Configuration::parse(&bytes[..cut.min(bytes.len())], Speed::Super) {
            Ok(parsed) => {
                check_harmless(&parsed, Speed::Super);
                prop_assert!(parsed.settings.len() <= whole.settings.len());
            }
            Err(error) => prop_assert!(cut < 9, "{error}"),
        }
    }
}
