//! Bring-up and link-up compared with what Linux 6.12 sends to the same chip (`docs/hardware/rtl8152-traces`).
//!
//! Both ways: this driver writes no register that Linux leaves alone, and it makes every write of the open and
//! link-up phases but those that are listed here with their reason.

use std::collections::BTreeSet;

use usb::{Speed, TransferError};

use crate::chip::Chip;
use crate::config::{Coalescing, Config, Filter};
use crate::error::Error;
use crate::fake::{Access, FakeClock, FakeDevice, run};
use crate::registers::Registers;
use crate::version::Version;

struct Golden {
    version: Version,
    speed: Speed,
    phy_status: u16,
    trace: &'static str,
}

macro_rules! golden {
    ($version:ident, $speed:ident, $status:literal, $file:literal) => {
        Golden {
            version: Version::$version,
            speed: Speed::$speed,
            phy_status: $status,
            trace: include_str!(concat!("../../../docs/hardware/rtl8152-traces/linux-6.12-", $file, ".txt")),
        }
    };
}

const TRACES: [Golden; 12] = [
    golden!(V4c10, High, 0x000b, "8152B-VER_02"),
    golden!(V5c00, Super, 0x0013, "8153-VER_03"),
    golden!(V5c10, Super, 0x0013, "8153-VER_04"),
    golden!(V5c20, Super, 0x0013, "8153A-VER_05"),
    golden!(V5c30, Super, 0x0013, "8153A-VER_06"),
    golden!(V6000, Super, 0x0013, "8153B-VER_08"),
    golden!(V6010, Super, 0x0013, "8153B-VER_09"),
    golden!(V6400, Super, 0x0013, "8153C-VER_14"),
    golden!(V7030, Super, 0x0403, "8156A-VER_11"),
    golden!(V7400, Super, 0x0403, "8156B-VER_12"),
    golden!(V7410, Super, 0x0403, "8156B-VER_13"),
    golden!(V7420, Super, 0x0013, "8153D-VER_15"),
];

/// Space, address and byte enables of a write.
type Place = (bool, u16, u8);

/// The PHY window: what a write there means depends on the page.
fn is_phy(address: u16) -> bool {
    (0xb000..0xc000).contains(&address)
}

fn parse(line: &str) -> Option<Access> {
    let mut fields = line.split_whitespace();
    let write = fields.next()? == "W";
    let usb = match fields.next()? {
        "USB" => true,
        "PLA" => false,
        _ => return None,
    };
    let address = u16::from_str_radix(fields.next()?, 16).ok()?;
    let enables = u8::from_str_radix(fields.next()?.strip_prefix("be=")?, 16).ok()?;
    let length = fields.next()?.strip_prefix("len=")?.parse().ok()?;
    let value = u32::from_str_radix(fields.nth(1)?, 16).unwrap_or(0);
    Some(Access { write, usb, address, enables, length, value })
}

/// The writes of the phases whose heading `wanted` likes.
fn writes(trace: &str, wanted: impl Fn(&str) -> bool) -> Vec<Access> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in trace.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            inside = wanted(heading);
        } else if inside {
            found.extend(parse(line).filter(|access| access.write));
        }
    }
    found
}

fn place(access: &Access) -> Place {
    (access.usb, access.address, access.enables)
}

fn chip(golden: &Golden) -> Chip<FakeDevice, FakeClock> {
    let device = FakeDevice::new(golden.version, golden.speed);
    let clock = FakeClock::default();
    let config = Config {
        coalescing: Coalescing::Throughput,
        vlan_strip: true,
        filter: Filter::Groups(vec![[0x01, 0x00, 0x5e, 0x00, 0x00, 0x01]]),
        ..Config::default()
    };
    let registers = Registers::new(device, clock, config.register_deadline);
    Chip::new(registers, golden.version, config)
}

fn bring_up_and_enable(golden: &Golden) -> Vec<Access> {
    let chip = chip(golden);
    let address = run(async {
        let address = chip.bring_up().await?;
        chip.registers.device.poke(0, 0xe908, &golden.phy_status.to_le_bytes());
        let status = chip.link_status().await?;
        assert!(status.is_up());
        chip.enable(status).await?;
        Ok::<_, Error>(address)
    });
    assert_eq!(address, Ok([0x00, 0xe0, 0x4c, 0x01, 0x02, 0x03]), "{:?}", golden.version);
    chip.registers.device.log.take()
}

/// Writes that Linux makes while opening and enabling, and this driver on purpose does not.
const LEFT_OUT: &[(Place, &str)] = &[
    ((false, 0xe908, 0x44), "LAN wake stays off"),
    ((false, 0xe004, 0x88), "LAN wake stays off"),
    ((true, 0xb424, 0xcc), "SuperSpeed PHY erratum of the power saving that stays off"),
];

#[test]
fn no_register_is_written_that_linux_leaves_alone() {
    for golden in &TRACES {
        let known: BTreeSet<Place> =
            writes(golden.trace, |_| true).iter().map(place).filter(|place| !is_phy(place.1)).collect();
        let ours = bring_up_and_enable(golden);
        for access in ours.iter().filter(|access| access.write && !is_phy(access.address)) {
            assert!(known.contains(&place(access)), "{:?}: {access:x?}", golden.version);
        }
    }
}

#[test]
fn every_write_that_opens_and_enables_is_made() {
    for golden in &TRACES {
        let ours: BTreeSet<Place> = bring_up_and_enable(golden).iter().map(place).collect();
        let phases = |heading: &str| heading.starts_with("open") || heading.starts_with("link-up");
        for access in writes(golden.trace, phases).iter().filter(|access| !is_phy(access.address)) {
            let excused = LEFT_OUT.iter().any(|(left_out, _)| *left_out == place(access));
            assert!(ours.contains(&place(access)) || excused, "{:?}: {access:x?}", golden.version);
        }
    }
}

/// Values that differ from Linux's because power saving stays off, or because Linux reads a wake-up setting back.
fn may_differ(place: Place) -> bool {
    const POWER_SAVING: &[Place] = &[
        // U1/U2 tolerance and its successor, U2P3, EEE.
        (true, 0xd490, 0xff),
        (true, 0xd494, 0x33),
        (true, 0xcfd8, 0x33),
        (true, 0xb460, 0x33),
        (false, 0xe040, 0x33),
        // Bit 0 goes with EEE.
        (false, 0xe0cc, 0xcc),
    ];
    POWER_SAVING.contains(&place)
}

#[test]
fn what_is_written_last_is_what_linux_writes_last() {
    for golden in &TRACES {
        let before_close = |heading: &str| {
            !["link-down", "close", "disconnect"].iter().any(|phase| heading.starts_with(phase))
        };
        let linux = writes(golden.trace, before_close);
        let ours = bring_up_and_enable(golden);
        let last = |log: &[Access], wanted: Place| {
            log.iter().rev().find(|access| access.write && place(access) == wanted).map(|access| access.value)
        };
        let places: BTreeSet<Place> = ours.iter().filter(|access| access.write).map(place).collect();
        for place in places.into_iter().filter(|place| !is_phy(place.1) && !may_differ(*place)) {
            assert_eq!(last(&ours, place), last(&linux, place), "{:?}: {place:x?}", golden.version);
        }
    }
}

/// PHY registers that are written, found by following the page register.
fn phy_writes(log: &[Access]) -> BTreeSet<u16> {
    let mut page = 0;
    let mut written = BTreeSet::new();
    for access in log.iter().filter(|access| access.write && !access.usb) {
        if access.address == 0xe86c {
            page = access.value as u16;
        } else if is_phy(access.address) {
            let upper = if access.enables == 0xcc { 2 } else { 0 };
            written.insert(page | access.address & 0xfff | upper);
        }
    }
    written
}

#[test]
fn no_phy_register_is_written_that_linux_leaves_alone() {
    // Linux writes this one only where it has to change.
    const FORCE_MODE: u16 = 0xa5b4;
    for golden in &TRACES {
        let linux = phy_writes(&writes(golden.trace, |_| true));
        let mut ours = phy_writes(&bring_up_and_enable(golden));
        ours.remove(&FORCE_MODE);
        assert!(ours.is_subset(&linux), "{:?}: {:x?}", golden.version, ours.difference(&linux));
    }
}

#[test]
fn a_failed_access_is_named_and_nothing_is_written_after_it() {
    for golden in &TRACES {
        let accesses = bring_up_and_enable(golden).len();
        for number in 0..accesses {
            for error in [TransferError::Stall, TransferError::TimedOut, TransferError::Gone] {
                let chip = chip(golden);
                chip.registers.device.fail.set(Some((number, error)));
                let outcome = run(async {
                    chip.bring_up().await?;
                    chip.enable(chip.link_status().await?).await
                });
                let log = chip.registers.device.log.take();
                let failed = &log[number];
                match outcome {
                    Err(Error::Register { address, write, error: reported, .. }) => {
                        assert_eq!((address, write, reported), (failed.address, failed.write, error));
                    }
                    other => panic!("{:?}: access {number} failed and gave {other:?}", golden.version),
                }
                assert_eq!(log.len(), number + 1, "{:?}: went on after a failed access", golden.version);
            }
        }
    }
}

#[test]
fn a_short_read_is_never_written_back() {
    for golden in &TRACES {
        let log = bring_up_and_enable(golden);
        for (number, _) in log.iter().enumerate().filter(|(_, access)| !access.write) {
            let chip = chip(golden);
            chip.registers.device.shorten.set(Some(number));
            let outcome = run(async {
                chip.bring_up().await?;
                chip.enable(chip.link_status().await?).await
            });
            assert!(matches!(outcome, Err(Error::ShortRead { .. })), "{:?}: {outcome:?}", golden.version);
            assert_eq!(chip.registers.device.log.take().len(), number + 1);
        }
    }
}

#[test]
fn a_chip_that_never_becomes_ready_is_given_up_with_a_reason() {
    let golden = &TRACES[4];
    let stuck = |space: usize, address: usize, value: &[u8]| {
        let chip = chip(golden);
        chip.registers.device.poke(space, address, value);
        run(chip.bring_up()).unwrap_err()
    };
    assert!(matches!(stuck(0, 0xe004, &[0]), Error::NotReached { state: "settings loaded", .. }));
    assert!(matches!(stuck(0, 0xb420, &[0]), Error::NotReached { state: "PHY booted", .. }));
    assert!(matches!(stuck(0, 0xe84f, &[0]), Error::NotReached { state: "buffer list ready", .. }));
}

#[test]
fn a_station_address_must_be_one() {
    let golden = &TRACES[4];
    let group = [0x01, 0x00, 0x5e, 0, 0, 1];
    let adapter = chip(golden);
    adapter.registers.device.poke(0, 0xd000, &group);
    assert_eq!(run(adapter.bring_up()), Err(Error::NoStationAddress(group)));

    let mut configured = chip(golden);
    configured.config.mac_address = Some(group);
    assert_eq!(run(configured.bring_up()), Err(Error::BadStationAddress(group)));
    configured.config.mac_address = Some([2, 0, 0, 0, 0, 1]);
    assert_eq!(run(configured.bring_up()), Ok([2, 0, 0, 0, 0, 1]));
}

#[test]
fn an_mtu_that_the_chip_cannot_do_is_refused() {
    for (golden, mtu, fits) in [
        (&TRACES[0], 1501, false),
        (&TRACES[4], 9194, true),
        (&TRACES[4], 9195, false),
        (&TRACES[10], 16362, true),
    ] {
        let mut chip = chip(golden);
        chip.config.maximum_transmission_unit = mtu;
        let outcome = run(chip.bring_up());
        assert_eq!(outcome.is_ok(), fits, "{:?}, MTU {mtu}: {outcome:?}", golden.version);
    }
}
