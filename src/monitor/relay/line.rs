//! A connection to a relay's control socket: orders out, reports in, a line each. It
//! waits for nothing, and must not know what they mean.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use crate::relay::message::{MAX_LINE, Order, Report};

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    stream: UnixStream,
    /// What has come of the next report.
    begun: Vec<u8>,
}

impl Line {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            begun: Vec::new(),
        })
    }

    /// # Errors
    ///
    /// The relay is gone, or has read nothing for so long that no more fits.
    pub(super) fn send(&mut self, order: &Order) -> io::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// The last report of those that have come, if one has.
    ///
    /// # Errors
    ///
    /// The relay is gone, or says what is no report; what it said before that is lost.
    pub(super) fn last(&mut self) -> io::Result<Option<Report>> {
        let mut last = None;
        loop {
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                // A last word counts, and its end is met the next time.
                Ok(0) if last.is_some() => return Ok(last),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self
                    .begun
                    .extend_from_slice(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(last),
                Err(_) if last.is_some() => return Ok(last),
                Err(error) => return Err(error),
            }
            while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.begun.drain(..=end).collect();
                last = Some(serde_json::from_slice(&line)?);
            }
            if self.begun.len() as u64 > MAX_LINE {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    "a report without end",
                ));
            }
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Line, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Line::new(ours).unwrap(), theirs)
    }

    fn said(pid: u32) -> Vec<u8> {
        let report = Report {
            pid,
            ..Report::default()
        };
        let mut line = serde_json::to_vec(&report).unwrap();
        line.push(b'\n');
        line
    }

    #[test]
    fn the_last_of_several_reports_counts_and_half_of_one_does_not() {
        let (mut line, mut relay) = pair();
        assert_eq!(line.last().unwrap(), None);
        let (half, rest) = (&said(3)[..20].to_vec(), &said(3)[20..].to_vec());
        relay
            .write_all(&[said(1), said(2), half.clone()].concat())
            .unwrap();
        assert_eq!(line.last().unwrap().unwrap().pid, 2);
        assert_eq!(line.last().unwrap(), None);
        relay.write_all(rest).unwrap();
        assert_eq!(line.last().unwrap().unwrap().pid, 3);
    }

    #[test]
    fn last_words_are_heard_before_the_end_is_seen() {
        let (mut line, mut relay) = pair();
        relay.write_all(&said(7)).unwrap();
        drop(relay);
        assert_eq!(line.last().unwrap().unwrap().pid, 7);
        let end = line.last().unwrap_err();
        assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
        assert!(line.send(&Order::Tell {}).is_err());
    }

    #[test]
    fn what_is_no_report_and_what_never_ends_is_an_error() {
        for nonsense in [b"{}\n".to_vec(), b"\xff\n".to_vec(), vec![b' '; 300 << 10]] {
            let (mut line, mut relay) = pair();
            let says = std::thread::spawn(move || {
                let _ = relay.write_all(&nonsense);
            });
            let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
            let error = loop {
                match line.last() {
                    Ok(None) => assert!(std::time::Instant::now() < until),
                    Ok(Some(report)) => panic!("{report:?}"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            drop(line);
            says.join().unwrap();
        }
    }

    #[test]
    fn a_relay_that_reads_nothing_holds_nobody_up() {
        let (mut line, _relay) = pair();
        let error = (0..1_000_000)
            .find_map(|_| line.send(&Order::Tell {}).err())
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}
