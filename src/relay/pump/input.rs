//! What comes on a socket, read in as few calls as can be: headers and short data
//! through a buffer, the rest of long data straight to where it belongs. It must not
//! know what a message looks like.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};

/// Some messages' worth; of long data so much is copied once more.
const CAPACITY: usize = 64 << 10;

/// Bytes that came and were not used yet.
#[derive(Debug)]
pub(super) struct Input {
    bytes: Box<[u8]>,
    from: usize,
    to: usize,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; CAPACITY].into_boxed_slice(),
            from: 0,
            to: 0,
        }
    }

    /// What is there.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or_default()
    }

    /// So many bytes were used.
    pub(super) fn consume(&mut self, count: usize) {
        self.from = self.to.min(self.from + count);
    }

    /// Moves what is there to `place`, as much as there is; how much that was.
    pub(super) fn move_to(&mut self, place: &mut [u8]) -> usize {
        let count = self.bytes().len().min(place.len());
        if let (Some(to), Some(from)) = (place.get_mut(..count), self.bytes().get(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        count
    }

    /// Waits until more is there; how much came, 0 at the end.
    pub(super) fn fill(&mut self, socket: BorrowedFd<'_>) -> Result<usize, Errno> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        } else if self.to == self.bytes.len() {
            self.bytes.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        let space = self.bytes.get_mut(self.to..).unwrap_or_default();
        let count = receive(socket, space, MsgFlags::empty())?;
        self.to += count;
        Ok(count)
    }
}

/// Fills `place` from the socket; `false` where the stream ended before.
pub(super) fn fill(socket: BorrowedFd<'_>, mut place: &mut [u8]) -> Result<bool, Errno> {
    while !place.is_empty() {
        let count = receive(socket, place, MsgFlags::MSG_WAITALL)?;
        if count == 0 {
            return Ok(false);
        }
        place = place.get_mut(count..).unwrap_or_default();
    }
    Ok(true)
}

/// Whether the other end is closed, whatever is still to be read.
pub(super) fn has_hung_up(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let hung = |fd: &PollFd<'_>| {
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
        fd.revents().is_some_and(|found| found.intersects(gone))
    };
    poll(&mut fds, PollTimeout::ZERO).is_ok() && fds.iter().any(hung)
}

fn receive(socket: BorrowedFd<'_>, place: &mut [u8], flags: MsgFlags) -> Result<usize, Errno> {
    loop {
        match recv(socket.as_raw_fd(), place, flags) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn every_byte_comes_once_and_in_order() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let sent: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        let writer = std::thread::spawn(move || theirs.write_all(&sent).unwrap());
        let (mut input, mut got) = (Input::new(), Vec::new());
        for step in (1..).map(|n: usize| n * 37 % 9000) {
            while input.bytes().len() < step.min(16) {
                if input.fill(ours.as_fd()).unwrap() == 0 {
                    got.extend_from_slice(input.bytes());
                    writer.join().unwrap();
                    assert_eq!(got, expected);
                    return;
                }
            }
            let mut place = vec![0; step];
            let moved = input.move_to(&mut place);
            got.extend_from_slice(&place[..moved]);
            let rest = &mut place[moved..];
            if got.len() + rest.len() <= expected.len() {
                assert!(fill(ours.as_fd(), rest).unwrap());
                got.extend_from_slice(rest);
            }
        }
    }
}
