//! QEMU's monitor protocol (QMP): one JSON object per line, answers mixed with events.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::Error;

/// How long QEMU may take to answer: generous, only against a hang.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A connection to the monitor.
pub struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Monitor {
    /// Greets and negotiates.
    ///
    /// # Errors
    ///
    /// [`Error::Monitor`] when what is at the other end does not speak QMP; [`Error::System`] of the socket.
    pub fn connect(socket: UnixStream) -> Result<Self, Error> {
        let failed = || Error::system("QEMU's monitor");
        socket.set_read_timeout(Some(ANSWER_LIMIT)).map_err(failed())?;
        let reader = BufReader::new(socket.try_clone().map_err(failed())?);
        let mut monitor = Self { reader, writer: socket };
        let greeting = monitor.read()?;
        if greeting.get("QMP").is_none() {
            return Err(Error::Monitor(format!("an unexpected greeting: {greeting}")));
        }
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Carries out a command and returns its result.
    ///
    /// # Errors
    ///
    /// [`Error::Monitor`] when QEMU refuses it or is gone.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, Error> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.writer.write_all(line.as_bytes()).map_err(Error::system("QEMU's monitor"))?;
        loop {
            let mut answer = self.read()?;
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
            if let Some(error) = answer.get("error") {
                return Err(Error::Monitor(format!("{command}: {error}")));
            }
            // Anything else is an event.
        }
    }

    fn read(&mut self) -> Result<Value, Error> {
        let mut line = String::new();
        let length = self.reader.read_line(&mut line).map_err(Error::system("QEMU's monitor"))?;
        if length == 0 {
            return Err(Error::Monitor("QEMU has ended".into()));
        }
        serde_json::from_str(&line).map_err(|error| Error::Monitor(format!("{error} in {line}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_between_command_and_answer_are_passed_over() {
        let (ours, qemu) = UnixStream::pair().unwrap();
        let player = std::thread::spawn(move || {
            let mut reader = BufReader::new(qemu.try_clone().unwrap());
            let mut writer = qemu;
            let mut line = String::new();
            writer.write_all(b"{\"QMP\":{}}\r\n").unwrap();
            reader.read_line(&mut line).unwrap();
            writer.write_all(b"{\"return\":{}}\r\n").unwrap();
            reader.read_line(&mut line).unwrap();
            writer.write_all(b"{\"event\":\"POWERDOWN\"}\r\n{\"return\":{\"running\":true}}\r\n").unwrap();
            reader.read_line(&mut line).unwrap();
            writer.write_all(b"{\"error\":{\"class\":\"CommandNotFound\"}}\r\n").unwrap();
            line
        });
        let mut monitor = Monitor::connect(ours).unwrap();
        assert_eq!(monitor.execute("query-status", &json!({})).unwrap()["running"], true);
        assert!(matches!(monitor.execute("nonsense", &json!({})), Err(Error::Monitor(_))));
        assert!(player.join().unwrap().contains("\"execute\":\"query-status\""));
    }
}
