//! A plan of what goes wrong when.
//!
//! As text, one fault a line, `#` starts a comment:
//!
//! ```text
//! start corrupt configuration1.endpoint81.wMaxPacketSize 0
//! start stick PLA e84f 02 00            # LINK_LIST_READY never comes
//! control 12 stall                      # the twelfth control transfer
//! control every 50 timeout
//! bulk-in 3 short 10
//! bulk-in 4 corrupt rx.length 0x7fff    # in the first descriptor of that transfer
//! bulk-out 7 disconnect 1500ms as-8151
//! interrupt 1 babble
//! time 2s link-down 500ms
//! ```
//!
//! Transfers are counted from 1 since the model was made, over all plug-ins; IN transfers when they are answered.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::chip::Stuck;
use crate::register_file::Space;

/// Kinds of transfers that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Control transfers, standard requests included.
    Control,
    /// Bulk transfers to the host.
    BulkIn,
    /// Bulk transfers to the device.
    BulkOut,
    /// Interrupt transfers.
    Interrupt,
}

/// When a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Before anything else.
    Start,
    /// At this time of the model's clock.
    Time(Duration),
    /// At the nth transfer of a kind.
    Nth(Counted, u64),
    /// At every nth.
    Every(Counted, u64),
}

/// How the device goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// How long it stays away; none: for good.
    pub away: Option<Duration>,
    /// It comes back as the virtual CD-ROM `0bda:8151`.
    pub as_storage: bool,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The endpoint halts.
    Stall,
    /// No answer ever.
    TimeOut,
    /// An invalid answer on the bus.
    Error,
    /// More data than asked for.
    Babble,
    /// Only so many bytes; half of them if no number is given.
    Short(Option<usize>),
    /// Unplugged, in the middle of the transfer.
    Disconnect(Disconnect),
    /// The cable is pulled, for so long or for good.
    LinkDown(Option<Duration>),
    /// A descriptor field gets another value.
    Corrupt {
        /// Name as in [`crate::descriptors::Descriptors::corrupt`], or `rx.length`, `rx.opts1` to `rx.opts6`.
        field: String,
        /// The new value.
        value: u32,
    },
    /// Register bits are held at a value.
    Stick(Stuck),
}

/// One line of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub trigger: Trigger,
    /// What.
    pub action: Action,
}

/// All that will go wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// In no particular order; at the same trigger the first wins.
    pub faults: Vec<Fault>,
}

/// A line that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fault plan, line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for PlanError {}

impl FaultPlan {
    /// Adds a fault.
    #[must_use]
    pub fn with(mut self, trigger: Trigger, action: Action) -> Self {
        self.faults.push(Fault { trigger, action });
        self
    }

    /// What goes wrong at the `count`th transfer of a kind.
    pub fn at(&self, kind: Counted, count: u64) -> Option<&Action> {
        let hit = |trigger| match trigger {
            Trigger::Nth(k, n) => k == kind && n == count,
            Trigger::Every(k, n) => k == kind && n != 0 && count.is_multiple_of(n),
            Trigger::Start | Trigger::Time(_) => false,
        };
        self.faults.iter().find(|fault| hit(fault.trigger)).map(|fault| &fault.action)
    }
}

impl FromStr for FaultPlan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let mut plan = Self::default();
        for (i, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            if !words.is_empty() {
                let fault = parse_fault(&words).map_err(|reason| PlanError { line: i + 1, reason })?;
                plan.faults.push(fault);
            }
        }
        Ok(plan)
    }
}

fn parse_fault(words: &[&str]) -> Result<Fault, String> {
    let (trigger, rest) = match words {
        ["start", rest @ ..] => (Trigger::Start, rest),
        ["time", at, rest @ ..] => (Trigger::Time(duration(at)?), rest),
        [kind, "every", n, rest @ ..] => (Trigger::Every(counted(kind)?, number(n)?.into()), rest),
        [kind, n, rest @ ..] => (Trigger::Nth(counted(kind)?, number(n)?.into()), rest),
        _ => return Err(format!("`{}` says no more than when", words.join(" "))),
    };
    let action = match rest {
        ["stall"] => Action::Stall,
        ["timeout"] => Action::TimeOut,
        ["error"] => Action::Error,
        ["babble"] => Action::Babble,
        ["short"] => Action::Short(None),
        ["short", bytes] => Action::Short(Some(number(bytes)? as usize)),
        ["disconnect", how @ ..] => Action::Disconnect(disconnect(how)?),
        ["link-down"] => Action::LinkDown(None),
        ["link-down", time] => Action::LinkDown(Some(duration(time)?)),
        ["corrupt", field, value] => Action::Corrupt { field: (*field).to_owned(), value: number(value)? },
        ["stick", space, address, mask, bits] => Action::Stick(stuck(space, address, mask, bits)?),
        [] => return Err("an action is missing".to_owned()),
        other => return Err(format!("`{}` is no action", other.join(" "))),
    };
    Ok(Fault { trigger, action })
}

fn counted(word: &str) -> Result<Counted, String> {
    match word {
        "control" => Ok(Counted::Control),
        "bulk-in" => Ok(Counted::BulkIn),
        "bulk-out" => Ok(Counted::BulkOut),
        "interrupt" => Ok(Counted::Interrupt),
        _ => Err(format!("`{word}` is none of start, time, control, bulk-in, bulk-out, interrupt")),
    }
}

fn disconnect(words: &[&str]) -> Result<Disconnect, String> {
    let (words, as_storage) = match words {
        [rest @ .., "as-8151"] => (rest, true),
        _ => (words, false),
    };
    let away = match words {
        [] => Some(Duration::from_secs(1)),
        ["forever"] => None,
        [time] => Some(duration(time)?),
        _ => return Err(format!("`{}` is not how long it stays away", words.join(" "))),
    };
    Ok(Disconnect { away, as_storage })
}

/// `SPACE ADDRESS MASK BITS`, all hexadecimal; mask and bits of up to eight digits stand at the address.
fn stuck(space: &str, address: &str, mask: &str, bits: &str) -> Result<Stuck, String> {
    let hexadecimal =
        |text: &str| u32::from_str_radix(text, 16).map_err(|_| format!("`{text}` is not hexadecimal"));
    let space = match space.to_ascii_uppercase().as_str() {
        "PLA" => Space::Pla,
        "USB" => Space::Usb,
        _ => return Err(format!("`{space}` is neither PLA nor USB")),
    };
    let address = u16::try_from(hexadecimal(address)?).map_err(|_| format!("{address} is beyond ffff"))?;
    let shift = 8 * u32::from(address & 3);
    Ok((space, address & !3, hexadecimal(mask)? << shift, hexadecimal(bits)? << shift))
}

fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is no number"))
}

/// `250ms`, `3s`, `85us`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let value: u64 = digits.parse().map_err(|_| format!("`{text}` is no duration such as 250ms or 3s"))?;
    match unit {
        "us" => Ok(Duration::from_micros(value)),
        "ms" => Ok(Duration::from_millis(value)),
        "s" => Ok(Duration::from_secs(value)),
        _ => Err(format!("`{text}` has no unit us, ms or s")),
    }
}

/// The `rx.` fields: words of the first descriptor of a received transfer.
pub(crate) fn received_field(name: &str) -> Option<(usize, u32)> {
    let word: usize = match name.strip_prefix("rx.")? {
        "length" => return Some((0, 0x7fff)),
        word => word.strip_prefix("opts")?.parse().ok()?,
    };
    (1..=6).contains(&word).then_some((4 * (word - 1), u32::MAX))
}

/// Overwrites such a field, if the transfer is long enough to have it.
pub(crate) fn corrupt_received(data: &mut [u8], field: &str, value: u32) {
    if let Some((at, mask)) = received_field(field)
        && let Some(bytes) = data.get_mut(at..at + 4)
    {
        let old = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        bytes.copy_from_slice(&(old & !mask | value & mask).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_in_the_documentation_is_understood() {
        let text = "start corrupt configuration1.endpoint81.wMaxPacketSize 0\n\
                    start stick PLA e84f 02 00   # never ready\n\
                    control 12 stall\n control every 50 timeout\n\n bulk-in 3 short 10\n\
                    bulk-in 4 corrupt rx.length 0x7fff\n bulk-out 7 disconnect 1500ms as-8151\n\
                    interrupt 1 babble\n time 2s link-down 500ms";
        let plan: FaultPlan = text.parse().unwrap();
        assert_eq!(plan.faults.len(), 9);
        assert_eq!(plan.faults[1].action, Action::Stick((Space::Pla, 0xe84c, 0x0200_0000, 0)));
        assert_eq!(plan.at(Counted::Control, 12), Some(&Action::Stall));
        assert_eq!(plan.at(Counted::Control, 100), Some(&Action::TimeOut));
        assert_eq!(plan.at(Counted::BulkIn, 12), None);
        let away = Some(Duration::from_millis(1500));
        let disconnect = Action::Disconnect(Disconnect { away, as_storage: true });
        assert_eq!(plan.at(Counted::BulkOut, 7), Some(&disconnect));
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = "control 1 stall\ncontrol two stall".parse::<FaultPlan>().unwrap_err();
        assert_eq!(error.to_string(), "fault plan, line 2: `two` is no number");
    }
}
