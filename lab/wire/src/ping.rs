//! The ping client: paced like `ping`, or pipelined like `ping -f`, with round-trip times.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::host::{Host, ReceivedEcho};
use crate::packet::MacAddress;

/// How often a stop request is looked at while nothing happens.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// When the next echo request goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// One per interval, whether or not the last one was answered.
    Interval(Duration),
    /// As fast as replies come back, with so many requests under way.
    Flood {
        /// Requests under way at once.
        in_flight: usize,
    },
}

/// What to ping, how often and how fast.
#[derive(Clone, Copy, Debug)]
pub struct PingRequest<'stop> {
    /// Whom.
    pub destination: Ipv4Addr,
    /// Number of echo requests.
    pub count: u64,
    /// Bytes of data in each: at most 65507.
    pub size: usize,
    /// When the next one goes out.
    pub pace: Pace,
    /// How long to wait for a reply before its request counts as lost.
    pub timeout: Duration,
    /// Set it to end early; what was sent by then is still waited for.
    pub stop: Option<&'stop AtomicBool>,
}

impl PingRequest<'_> {
    /// `count` requests of `size` bytes, one after the other's reply, each given ten seconds.
    #[must_use]
    pub fn new(destination: Ipv4Addr, count: u64, size: usize) -> Self {
        let pace = Pace::Flood { in_flight: 1 };
        Self { destination, count, size, pace, timeout: Duration::from_secs(10), stop: None }
    }
}

/// A reply to one of our requests, with the data that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoReply {
    /// Which request, counted from 1.
    pub sequence: u64,
    /// Bytes of ICMP message: header and data.
    pub bytes: usize,
    /// Who answered.
    pub source: Ipv4Addr,
    /// IPv4 time to live, as it arrived.
    pub time_to_live: u8,
    /// From just before the request was sent until the reply was read.
    pub round_trip: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct PingOutcome {
    /// Requests sent.
    pub sent: u64,
    /// First replies with the right data, in order of arrival.
    pub replies: Vec<EchoReply>,
    /// Replies whose data was not what was sent; they do not count as replies.
    pub corrupted: u64,
    /// Replies to requests that had been answered already or given up.
    pub duplicates: u64,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// Why it ended early, when it did: most likely the guest is gone.
    pub interrupted: Option<io::Error>,
}

impl PingOutcome {
    /// Every request was answered, and nothing else arrived.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.interrupted.is_none()
            && self.replies.len() as u64 == self.sent
            && self.corrupted == 0
            && self.duplicates == 0
    }
}

/// The data of request `sequence`: a ramp that starts elsewhere in each.
fn data(sequence: u64, size: usize) -> Vec<u8> {
    #[expect(clippy::cast_possible_truncation, reason = "a pattern: the low byte is what is wanted")]
    (0..size).map(|index| (index as u64).wrapping_add(sequence.wrapping_mul(37)) as u8).collect()
}

/// A run of pings under way.
struct Run<'request> {
    request: PingRequest<'request>,
    station: MacAddress,
    identifier: u16,
    /// Requests without a reply, by ICMP sequence number: which request it is and when it went out.
    outstanding: HashMap<u16, (u64, Instant)>,
    /// The same in order of sending, for giving up.
    order: VecDeque<(u16, u64, Instant)>,
    outcome: PingOutcome,
    next: Instant,
}

impl Run<'_> {
    fn stopped(&self) -> bool {
        self.request.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    fn all_sent(&self) -> bool {
        self.outcome.sent == self.request.count || self.stopped()
    }

    fn may_send(&self, now: Instant) -> bool {
        !self.all_sent()
            && match self.request.pace {
                Pace::Interval(_) => now >= self.next,
                Pace::Flood { in_flight } => self.outstanding.len() < in_flight.max(1),
            }
    }

    fn send(&mut self, host: &mut Host) -> io::Result<()> {
        let number = self.outcome.sent + 1;
        #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
        let sequence = number as u16;
        let payload = data(number, self.request.size);
        let now = Instant::now();
        host.send_echo_request(self.station, self.request.destination, self.identifier, sequence, &payload)?;
        self.outcome.sent = number;
        self.outstanding.insert(sequence, (number, now));
        self.order.push_back((sequence, number, now));
        if let Pace::Interval(interval) = self.request.pace {
            // Never a burst to catch up.
            self.next = (self.next + interval).max(now);
        }
        Ok(())
    }

    /// Gives up on requests older than the time-out.
    fn expire(&mut self, now: Instant) {
        while let Some(&(sequence, number, sent_at)) = self.order.front() {
            let open = self.outstanding.get(&sequence).is_some_and(|(open, _)| *open == number);
            if open && now.duration_since(sent_at) < self.request.timeout {
                break;
            }
            if open {
                self.outstanding.remove(&sequence);
            }
            self.order.pop_front();
        }
    }

    /// Until when there is nothing to do but receive.
    fn wait(&self, now: Instant) -> Duration {
        let give_up = self.order.front().map(|(_, _, sent_at)| *sent_at + self.request.timeout);
        let send = match self.request.pace {
            Pace::Interval(_) if !self.all_sent() => Some(self.next),
            _ => None,
        };
        let until = give_up.into_iter().chain(send).min().unwrap_or(now);
        until.saturating_duration_since(now).min(STOP_CHECK)
    }

    fn take(&mut self, echo: &ReceivedEcho, at: Instant) -> Option<EchoReply> {
        if echo.identifier != self.identifier || echo.source != self.request.destination {
            return None;
        }
        let Some(&(number, sent_at)) = self.outstanding.get(&echo.sequence) else {
            self.outcome.duplicates += 1;
            return None;
        };
        if echo.payload != data(number, self.request.size) {
            self.outcome.corrupted += 1;
            return None;
        }
        self.outstanding.remove(&echo.sequence);
        let reply = EchoReply {
            sequence: number,
            bytes: 8 + echo.payload.len(),
            source: echo.source,
            time_to_live: echo.time_to_live,
            round_trip: at.duration_since(sent_at),
        };
        self.outcome.replies.push(reply);
        Some(reply)
    }

    fn drive(&mut self, host: &mut Host, observe: &mut dyn FnMut(&EchoReply)) -> io::Result<()> {
        loop {
            let now = Instant::now();
            self.expire(now);
            if self.may_send(now) {
                self.send(host)?;
                continue;
            }
            if self.all_sent() && self.outstanding.is_empty() {
                return Ok(());
            }
            if let Some(arrival) = host.receive(self.wait(now))?
                && let Some(echo) = arrival.echo_reply
                && let Some(reply) = self.take(&echo, arrival.at)
            {
                observe(&reply);
            }
        }
    }
}

impl Host {
    /// Pings, and calls `observe` with each reply as it comes.
    ///
    /// # Errors
    ///
    /// Those of the cable while the destination's station address is resolved, and [`io::ErrorKind::HostUnreachable`]
    /// when it is not to be had within the request's time-out. Later ones end the run and are in
    /// [`PingOutcome::interrupted`].
    pub fn ping(
        &mut self,
        request: &PingRequest<'_>,
        observe: &mut dyn FnMut(&EchoReply),
    ) -> io::Result<PingOutcome> {
        let Some(station) = self.resolve(request.destination, request.timeout)? else {
            let message = format!("{} does not answer ARP", request.destination);
            return Err(io::Error::new(io::ErrorKind::HostUnreachable, message));
        };
        let begin = Instant::now();
        let mut run = Run {
            request: *request,
            station,
            identifier: self.next_ping_identifier(),
            outstanding: HashMap::new(),
            order: VecDeque::new(),
            outcome: PingOutcome {
                sent: 0,
                replies: Vec::new(),
                corrupted: 0,
                duplicates: 0,
                elapsed: Duration::ZERO,
                interrupted: None,
            },
            next: begin,
        };
        run.outcome.interrupted = run.drive(self, observe).err();
        run.outcome.elapsed = begin.elapsed();
        Ok(run.outcome)
    }
}
