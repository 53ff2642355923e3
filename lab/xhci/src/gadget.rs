//! A device made of descriptors and a few endpoints: most of what a test plugs in.

use std::collections::{HashMap, VecDeque};

use crate::device::{Answer, Speed, VirtualDevice};

/// How an endpoint moves data (`bmAttributes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Bulk.
    Bulk = 2,
    /// Interrupt.
    Interrupt = 3,
}

/// An endpoint of a [`Gadget`].
#[derive(Clone, Copy, Debug)]
pub struct GadgetEndpoint {
    /// `bEndpointAddress`.
    pub address: u8,
    /// How it moves data.
    pub transport: Transport,
}

/// A device with one configuration (value 1) of one interface. What is sent to an OUT endpoint is kept, and comes back
/// from the IN endpoint of the same number when [`Gadget::echoes`] is set.
#[derive(Debug)]
pub struct Gadget {
    speed: Speed,
    device_descriptor: Vec<u8>,
    configurations: Vec<Vec<u8>>,
    strings: HashMap<u8, Vec<u8>>,
    configuration: u8,
    /// OUT transfers are answered by an IN transfer with the same bytes.
    pub echoes: bool,
    /// Answers waiting at IN endpoints, by address. An endpoint without any is not ready.
    pub answers: HashMap<u8, VecDeque<Answer>>,
    /// What came to OUT endpoints.
    pub received: Vec<(u8, Vec<u8>)>,
    /// Control requests that it saw.
    pub requests: Vec<[u8; 8]>,
    /// How often it was reset.
    pub resets: usize,
    /// The next control requests are answered so, before anything else.
    pub control_answers: VecDeque<Answer>,
}

impl Gadget {
    /// A device of a speed, with ids, an interface class and endpoints. Packet sizes are those of the speed.
    #[must_use]
    pub fn new(speed: Speed, ids: (u16, u16), class: u8, endpoints: &[GadgetEndpoint]) -> Self {
        let (version, packet) = match speed {
            Speed::Low => (0x0110_u16, 8),
            Speed::Full => (0x0110, 64),
            Speed::High => (0x0200, 64),
            Speed::Super | Speed::SuperPlus => (0x0320, 9),
        };
        let mut device = vec![18, 1];
        device.extend(version.to_le_bytes());
        device.extend([0, 0, 0, packet]);
        device.extend(ids.0.to_le_bytes());
        device.extend(ids.1.to_le_bytes());
        device.extend([0, 1, 1, 2, 3, 1]);
        let configuration = configuration_bytes(speed, class, endpoints);
        let mut gadget = Self {
            speed,
            device_descriptor: device,
            configurations: vec![configuration],
            strings: HashMap::new(),
            configuration: 0,
            echoes: false,
            answers: HashMap::new(),
            received: Vec::new(),
            requests: Vec::new(),
            resets: 0,
            control_answers: VecDeque::new(),
        };
        gadget.strings.insert(0, vec![4, 3, 0x09, 0x04]);
        gadget.set_string(1, "Skiff");
        gadget.set_string(2, "Gadget");
        gadget.set_string(3, "0001");
        gadget
    }

    /// Sets a string.
    pub fn set_string(&mut self, index: u8, text: &str) {
        let mut bytes = vec![0, 3];
        text.encode_utf16().for_each(|unit| bytes.extend(unit.to_le_bytes()));
        bytes[0] = bytes.len().min(255) as u8;
        self.strings.insert(index, bytes);
    }

    /// Replaces the device descriptor by any bytes.
    pub fn set_device_descriptor(&mut self, bytes: Vec<u8>) {
        self.device_descriptor = bytes;
    }

    /// The device descriptor.
    #[must_use]
    pub fn device_descriptor(&self) -> &[u8] {
        &self.device_descriptor
    }

    /// Replaces the configuration by any bytes.
    pub fn set_configuration_descriptor(&mut self, bytes: Vec<u8>) {
        self.configurations = vec![bytes];
    }

    /// The configuration in force.
    #[must_use]
    pub fn configuration(&self) -> u8 {
        self.configuration
    }

    /// Lets an IN endpoint answer with these bytes next.
    pub fn answer(&mut self, endpoint: u8, bytes: Vec<u8>) {
        self.answers.entry(endpoint).or_default().push_back(Answer::Data(bytes));
    }

    fn get_descriptor(&self, value: u16) -> Answer {
        let (kind, index) = ((value >> 8) as u8, value as u8);
        let found = match kind {
            1 => Some(&self.device_descriptor),
            2 => self.configurations.get(usize::from(index)),
            3 => self.strings.get(&index),
            _ => None,
        };
        found.map_or(Answer::Stall, |bytes| Answer::Data(bytes.clone()))
    }
}

fn configuration_bytes(speed: Speed, class: u8, endpoints: &[GadgetEndpoint]) -> Vec<u8> {
    let mut body = vec![9, 4, 0, 0, endpoints.len() as u8, class, 0, 0, 0];
    for endpoint in endpoints {
        let (packet, interval): (u16, u8) = match (speed, endpoint.transport) {
            (Speed::Low, _) => (8, 10),
            (Speed::Full, _) => (64, 10),
            (Speed::High, Transport::Bulk) => (512, 0),
            (_, Transport::Interrupt) => (16, 4),
            (_, Transport::Bulk) => (1024, 0),
        };
        body.extend([7, 5, endpoint.address, endpoint.transport as u8]);
        body.extend(packet.to_le_bytes());
        body.push(interval);
        if speed.is_superspeed() {
            let (burst, bytes) =
                if endpoint.transport == Transport::Bulk { (3, 0) } else { (0, packet as u8) };
            body.extend([6, 0x30, burst, 0, bytes, 0]);
        }
    }
    let total = (9 + body.len()) as u16;
    let [low, high] = total.to_le_bytes();
    let mut bytes = vec![9, 2, low, high, 1, 1, 0, 0xa0, 50];
    bytes.extend(body);
    bytes
}

impl VirtualDevice for Gadget {
    fn speed(&self) -> Speed {
        self.speed
    }

    fn reset(&mut self) {
        self.resets += 1;
        self.configuration = 0;
    }

    fn control(&mut self, setup: [u8; 8], data: &[u8]) -> Answer {
        let _ = data;
        self.requests.push(setup);
        if let Some(answer) = self.control_answers.pop_front() {
            return answer;
        }
        let value = u16::from_le_bytes([setup[2], setup[3]]);
        let length = usize::from(u16::from_le_bytes([setup[6], setup[7]]));
        let answer = match (setup[0], setup[1]) {
            (0x80, 6) => self.get_descriptor(value),
            (0x00, 9) if value <= 1 => {
                self.configuration = value as u8;
                Answer::done()
            }
            // SET_INTERFACE to 0, CLEAR_FEATURE(ENDPOINT_HALT).
            (0x01, 11) if value == 0 => Answer::done(),
            (0x02, 1) => Answer::done(),
            // Vendor requests to play with: write is accepted, read gives the index over and over.
            (0x40, _) => Answer::done(),
            (0xc0, _) => Answer::Data(vec![setup[4]; length]),
            _ => Answer::Stall,
        };
        match answer {
            Answer::Data(mut bytes) => {
                bytes.truncate(length);
                Answer::Data(bytes)
            }
            other => other,
        }
    }

    fn transfer_in(&mut self, endpoint: u8, _length: usize) -> Answer {
        self.answers.get_mut(&endpoint).and_then(VecDeque::pop_front).unwrap_or(Answer::NotReady)
    }

    fn transfer_out(&mut self, endpoint: u8, data: &[u8]) -> Answer {
        self.received.push((endpoint, data.to_vec()));
        if self.echoes {
            self.answer(endpoint | 0x80, data.to_vec());
        }
        Answer::done()
    }
}
