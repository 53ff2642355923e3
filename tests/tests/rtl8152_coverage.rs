//! Which registers of the chip Linux writes and our driver does not, by section of Linux's session: the page
//! docs/hardware/rtl8152-coverage.md is what comes out here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use hal::time::{Duration, sleep};
use images::oracle::accesses::{Summary, Where};
use lab_rtl8152::{Config, Disconnect, LinkSpeed, Version};
use skiff_tests::adapter_world::{Manner, World};

const DOCUMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/hardware");
const CHIPS: [&str; 5] = ["8152b", "8153a", "8153b", "8156a", "8156b"];
/// Rewrites the page instead of comparing it.
const UPDATE: &str = "UPDATE_DOCUMENTS";

/// A register as bytes of a dword.
type Register = (Where, u16, u8);

/// What our driver writes from plug-in over traffic and a pulled cable to the unplugging.
fn session(version: Version) -> Summary {
    let world = World::new(Config::new(version));
    world.socket.with(|adapter, _| adapter.log_accesses());
    world.employ_rtl8152(Manner::Echo, rtl8152::Config::default());
    world.run(Duration::from_secs(60), async {
        world.echo_works().await;
        world.socket.with(|adapter, now| adapter.set_cable(None, now));
        sleep(&*world.clock, Duration::from_millis(300)).await;
        world.socket.with(|adapter, now| adapter.set_cable(Some(LinkSpeed::M2500), now));
        world.echo_works().await;
    });
    let accesses = world.socket.with(|adapter, now| {
        adapter.unplug(Disconnect { away: None, as_storage: false }, now);
        adapter.take_accesses()
    });
    let mut log = String::new();
    for access in accesses {
        writeln!(log, "{access}").unwrap_or_default();
    }
    Summary::of(&log)
}

/// Linux's session, cut at its headings; sections of the same name are one.
fn golden(version: &Version) -> (Vec<String>, BTreeMap<String, String>) {
    let end = format!("-{}.txt", version.linux);
    let folder =
        fs::read_dir(Path::new(DOCUMENTS).join("rtl8152-traces")).expect("the logs are in the repository");
    let path = folder.flatten().map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with(&end));
    let text = fs::read_to_string(path.expect("a log of this chip")).expect("it can be read");
    let (mut order, mut sections) = (Vec::new(), BTreeMap::new());
    let mut current = String::new();
    let mut page = "";
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            current = heading.to_owned();
            if !order.contains(&current) {
                order.push(current.clone());
            }
            // The PHY's page is chosen once and stays.
            let section: &mut String = sections.entry(current.clone()).or_default();
            section.push_str(page);
            section.push('\n');
        } else if let Some(section) = sections.get_mut(&current) {
            section.push_str(line);
            section.push('\n');
        }
        if line.starts_with("W  PLA e86c") {
            page = line;
        }
    }
    (order, sections)
}

fn written(summary: &Summary) -> BTreeSet<Register> {
    summary.writes.iter().map(|write| (write.space, write.address, write.lanes)).collect()
}

/// Whether `ours` has a write that touches a byte of this register.
fn touched(ours: &BTreeSet<Register>, (space, address, lanes): Register) -> bool {
    ours.iter().any(|(s, a, l)| (*s, *a) == (space, address) && l & lanes != 0)
}

fn name((space, address, lanes): Register) -> String {
    let space = match space {
        Where::Pla => "P",
        Where::Usb => "U",
        Where::Phy => "O",
    };
    format!("{space} {:04x}", address + lanes.trailing_zeros() as u16)
}

fn page() -> String {
    let mut page = String::from(
        "# What Linux writes and our driver does not\n\n\
         Registers (P: MAC side, U: bus side, O: PHY, as in the [fact sheet](rtl8152.md)) that Linux 6.12 writes in its \
         [golden sessions](rtl8152-traces/), by section, and that our driver leaves alone between plug-in and unplugging, \
         with traffic and a pulled cable in between. They are analog settings \
         and power saving of the PHY (hw_phy_cfg: classes T and P of the fact sheet; FreeBSD and OpenBSD leave out the \
         RTL8156's altogether, fact sheet 4.5), LED and wake-up settings of the RTL8153A, and what hands the MAC to the chip's \
         firmware for wake-on-LAN (close).\n\n\
         This page is written by `UPDATE_DOCUMENTS=1 cargo test -p skiff-tests --test rtl8152_coverage`; the same test \
         without the variable compares it.\n",
    );
    for chip in CHIPS {
        let version = Version::find(chip).expect("the model knows this chip");
        let ours = written(&session(version));
        let (order, sections) = golden(&version);
        let mut all = BTreeSet::new();
        write!(page, "\n## {version}\n\n| section | registers | also ours | only Linux's |\n| --- | ---: | ---: | --- |\n")
            .unwrap_or_default();
        for section in order {
            let theirs = written(&Summary::of(&sections[&section]));
            all.extend(theirs.iter().copied());
            let only: Vec<String> = theirs
                .iter()
                .filter(|register| !touched(&ours, **register))
                .map(|register| name(*register))
                .collect();
            if theirs.is_empty() {
                continue;
            }
            let shared = theirs.len() - only.len();
            writeln!(page, "| {section} | {} | {shared} | {} |", theirs.len(), only.join(", "))
                .unwrap_or_default();
        }
        let own: Vec<String> = ours
            .iter()
            .filter(|register| !touched(&all, **register))
            .map(|register| name(*register))
            .collect();
        let own = if own.is_empty() { "none".to_owned() } else { own.join(", ") };
        writeln!(page, "\nOnly ours: {own}.").unwrap_or_default();
    }
    page
}

#[test]
fn the_page_about_what_only_linux_writes_is_true() {
    let path = Path::new(DOCUMENTS).join("rtl8152-coverage.md");
    let page = page();
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, page).expect("the page can be written");
        return;
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == page, "{} is out of date: write it anew with {UPDATE}=1", path.display());
}
