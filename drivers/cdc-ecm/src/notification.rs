//! Notifications on the interrupt endpoint (CDC 1.2, section 6.3; ECM 1.2, section 6.3).

/// What a device tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notification {
    /// NETWORK_CONNECTION: the link is up, or down.
    Connection(bool),
    /// CONNECTION_SPEED_CHANGE, in bits per second.
    Speed {
        /// From the network to the host.
        down: u32,
        /// From the host to the network.
        up: u32,
    },
    /// Another notification, by `bNotificationCode`.
    Other(u8),
}

const KIND_CLASS_INTERFACE: u8 = 0xa1;
const CODE_CONNECTION: u8 = 0x00;
const CODE_SPEED: u8 = 0x2a;
const HEADER_LENGTH: usize = 8;

impl Notification {
    /// Reads a notification from what one interrupt transfer brought; `None` when it is none, or cut short.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, data) = bytes.split_at_checked(HEADER_LENGTH)?;
        let &[kind, code, value, _, _, _, _, _] = header else { return None };
        if kind != KIND_CLASS_INTERFACE {
            return None;
        }
        match code {
            CODE_CONNECTION => Some(Self::Connection(value != 0)),
            CODE_SPEED => {
                let down = u32::from_le_bytes(*data.first_chunk()?);
                let up = u32::from_le_bytes(*data.get(4..)?.first_chunk()?);
                Some(Self::Speed { down, up })
            }
            other => Some(Self::Other(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn connection_and_speed_are_understood() {
        let connection = |value| Notification::parse(&[0xa1, 0x00, value, 0, 0, 0, 0, 0]);
        assert_eq!(connection(1), Some(Notification::Connection(true)));
        assert_eq!(connection(0), Some(Notification::Connection(false)));
        let speed = [0xa1, 0x2a, 0, 0, 0, 0, 8, 0, 0x00, 0xca, 0x9a, 0x3b, 0x80, 0x96, 0x98, 0x00];
        assert_eq!(
            Notification::parse(&speed),
            Some(Notification::Speed { down: 1_000_000_000, up: 10_000_000 })
        );
        assert_eq!(Notification::parse(&speed[..15]), None, "cut short");
        assert_eq!(Notification::parse(&[0xa1, 0x00, 1, 0, 0, 0, 0]), None, "cut short");
        assert_eq!(Notification::parse(&[0x21, 0x00, 1, 0, 0, 0, 0, 0]), None, "a request's type");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_notification_or_are_not(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
            let _ = Notification::parse(&bytes);
        }
    }
}
