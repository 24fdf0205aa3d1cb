//! What process 1 is at, asked of it directly: over its own socket and in the few bytes
//! of D-Bus that it takes, as nothing can be executed where the root is dead. It must not
//! know who wants to know.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::control::connect;
use crate::kernel::Ending;

/// Root alone may connect, and gets answers without a bus.
const SOCKET: &str = "/run/systemd/private";

/// Where it waits for a root that is dead it answers once that fails, which takes
/// `shutdown_timeout` from when the monitors know.
const ANSWER: Duration = Duration::from_secs(9);

/// A job of each unit, of some 250 bytes.
const MAX_MESSAGE: usize = 4 << 20;

/// As user 0, in hexadecimal of its digits; it answers in one line. Nothing else goes with
/// it, nor comes before the answer: what it reads together with that it forgets.
const HELLO: &[u8] = b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n";

/// How the machine is about to end; `None` where it is not, as in a soft reboot, or where
/// a shutdown was called off.
///
/// # Errors
///
/// Process 1 does not say.
pub(super) fn ending() -> io::Result<Option<Ending>> {
    Ok(how(&ask(Path::new(SOCKET), ANSWER)?))
}

/// The same for who cannot wait for that. What process 1 has become since, where it is at
/// the end already, answers nobody.
///
/// # Errors
///
/// As above.
pub(super) fn ending_now() -> io::Result<Option<Ending>> {
    const AT_ONCE: Duration = Duration::from_secs(2);
    match Ending::under_way() {
        None => Ok(how(&ask(Path::new(SOCKET), AT_ONCE)?)),
        under_way => Ok(under_way),
    }
}

/// What the jobs come to.
fn how(jobs: &[u8]) -> Option<Ending> {
    jobs_of(jobs).find_map(|(unit, kind)| match (unit, kind) {
        ("poweroff.target", "start") => Some(Ending::PowerOff),
        ("reboot.target" | "kexec.target", "start") => Some(Ending::Restart),
        ("halt.target", "start") => Some(Ending::Halt),
        _ => None,
    })
}

/// The body of the answer to ListJobs.
fn ask(socket: &Path, allowed: Duration) -> io::Result<Vec<u8>> {
    let Some(mut stream) = connect(socket)? else {
        return Err(io::ErrorKind::NotFound.into());
    };
    stream.set_read_timeout(Some(allowed))?;
    stream.set_write_timeout(Some(allowed))?;
    stream.write_all(HELLO)?;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") && line.len() < 256 {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    if !line.starts_with(b"OK ") {
        return Err(io::Error::other("it does not let us in"));
    }
    stream.write_all(&call("ListJobs"))?;
    let until = Instant::now() + allowed;
    while Instant::now() < until {
        let (kind, body) = message(&mut stream)?;
        match kind {
            METHOD_RETURN => return Ok(body),
            ERROR => return Err(io::Error::other("it refuses")),
            // It tells of jobs that come and go.
            _ => {}
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

/// A call without arguments.
fn call(member: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    for (code, signature, text) in [
        (1, b'o', "/org/freedesktop/systemd1"),
        (2, b's', "org.freedesktop.systemd1.Manager"),
        (3, b's', member),
    ] {
        pad(&mut fields, 8);
        // The field, and a variant: a signature of one letter, and its value.
        fields.extend([code, 1, signature, 0]);
        fields.extend(u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
        fields.extend(text.as_bytes());
        fields.push(0);
    }
    let (body, serial) = (0u32, 1u32);
    let length = u32::try_from(fields.len()).unwrap_or(0);
    let mut message = vec![b'l', METHOD_CALL, 0, 1];
    for number in [body, serial, length] {
        message.extend(number.to_le_bytes());
    }
    message.extend(fields);
    pad(&mut message, 8);
    message
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

/// The next message's type and body.
fn message(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let odd = || io::Error::from(io::ErrorKind::InvalidData);
    let mut header = [0; 16];
    stream.read_exact(&mut header)?;
    let [order, kind, _flags, _version, ..] = header;
    let mut numbers = Cursor {
        bytes: &header,
        at: 4,
    };
    let (body, _serial) = (numbers.number(), numbers.number());
    let (Some(body), Some(fields), b'l') = (body, numbers.number(), order) else {
        return Err(odd());
    };
    let fields = fields.next_multiple_of(8);
    if body > MAX_MESSAGE || fields > MAX_MESSAGE {
        return Err(odd());
    }
    let mut rest = vec![0; fields + body];
    stream.read_exact(&mut rest)?;
    Ok((kind, rest.split_off(fields)))
}

/// The units and the types of jobs: `a(usssoo)`, of which these are the second and the
/// third.
fn jobs_of(body: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let mut cursor = Cursor { bytes: body, at: 0 };
    let _length = cursor.number();
    std::iter::from_fn(move || {
        cursor.align(8);
        let _id = cursor.number()?;
        let (unit, kind) = (cursor.string()?, cursor.string()?);
        for _ in ["state", "job's path", "unit's path"] {
            cursor.string()?;
        }
        Some((unit, kind))
    })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn number(&mut self) -> Option<usize> {
        self.align(4);
        let bytes = self.take(4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    }

    fn string(&mut self) -> Option<&'a str> {
        let length = self.number()?;
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        self.take(1)?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    fn body(jobs: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        for (unit, kind) in jobs {
            pad(&mut bytes, 8);
            bytes.extend(7u32.to_le_bytes());
            for text in [unit, kind, "waiting", "/j/7", "/u/x"] {
                pad(&mut bytes, 4);
                bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
                bytes.extend(text.as_bytes());
                bytes.push(0);
            }
        }
        bytes
    }

    #[test]
    fn jobs_are_read_and_what_is_torn_ends_them() {
        let jobs = [("a.service", "stop"), ("poweroff.target", "start")];
        let bytes = body(&jobs);
        assert_eq!(jobs_of(&bytes).collect::<Vec<_>>(), jobs);
        for length in 0..bytes.len() {
            assert!(jobs_of(&bytes[..length]).count() < 2);
        }
        assert_eq!(jobs_of(&body(&[])).count(), 0);
        assert_eq!(jobs_of(&[0xff; 64]).count(), 0);
    }

    /// Byte by byte what the specification of D-Bus asks for.
    #[test]
    fn a_call_is_as_it_is_specified() {
        let call = call("ListJobs");
        assert_eq!(call.len() % 8, 0);
        assert_eq!(&call[..8], b"l\x01\0\x01\0\0\0\0");
        assert_eq!(call[16..24], *b"\x01\x01o\0\x19\0\0\0");
        let member = call.windows(12).any(|at| at == b"\x08\0\0\0ListJobs");
        assert!(member && call.ends_with(&[0]));
    }

    #[test]
    fn a_shutdown_is_one_that_ends_the_machine() {
        let of = |jobs: &[(&str, &str)]| how(&body(jobs));
        assert_eq!(
            of(&[("x.service", "stop"), ("reboot.target", "start")]),
            Some(Ending::Restart)
        );
        assert_eq!(of(&[("soft-reboot.target", "start")]), None);
        assert_eq!(of(&[("poweroff.target", "stop")]), None, "called off");
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn an_answer_is_found_behind_other_messages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("private");
        let listener = UnixListener::bind(&path).unwrap();
        let jobs = body(&[("reboot.target", "start")]);
        let answer = jobs.clone();
        let manager = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hello = vec![0; HELLO.len()];
            stream.read_exact(&mut hello).unwrap();
            stream.write_all(b"OK 0123\r\n").unwrap();
            let mut rest = vec![0; call("ListJobs").len()];
            stream.read_exact(&mut rest).unwrap();
            for (kind, body) in [(4, vec![1; 5]), (METHOD_RETURN, answer)] {
                let mut message = vec![b'l', kind, 0, 1];
                for number in [body.len(), 9, 3] {
                    message.extend(u32::try_from(number).unwrap().to_le_bytes());
                }
                message.extend([0; 8]);
                message.extend(body);
                stream.write_all(&message).unwrap();
            }
        });
        assert_eq!(ask(&path, ANSWER).unwrap(), jobs);
        manager.join().unwrap();
        assert!(ask(&folder.path().join("none"), ANSWER).is_err());
    }
}
