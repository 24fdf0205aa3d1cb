//! The answering side of control.sock. Only root reaches it: its folder is 0700.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sys::socket::{Shutdown, shutdown};

use super::mail::{Mail, Mailbox};
use crate::monitor::control::{Answer, MAX_LINE, Request};

/// How many may ask at once; more are hung up on.
const MAX_CLIENTS: usize = 16;

/// How long a client may be silent.
const IDLE: Duration = Duration::from_secs(10);

/// The longest that an answer takes: a detach that writes everything back.
const WORK: Duration = Duration::from_secs(300);

/// How long the last answers may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A socket that listens until it is dropped.
pub(super) struct Listening {
    listener: Arc<UnixListener>,
    owed: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
}

impl Listening {
    /// Ends it, when whoever asked has an answer.
    pub(super) fn close(self) {
        let until = Instant::now() + LAST_WORDS;
        while self.owed.load(Ordering::Acquire) > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // It ends the accept(2) in the thread.
        self.closed.store(true, Ordering::Release);
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
    }
}

/// Listens at a path of which the caller has the lock.
pub(super) fn listen(path: &Path, mailbox: &Mailbox) -> io::Result<Listening> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = Arc::new(UnixListener::bind(path)?);
    let theirs = Arc::clone(&listener);
    let mailbox = mailbox.clone();
    let clients = Arc::new(AtomicUsize::new(0));
    let owed = Arc::new(AtomicUsize::new(0));
    let owing = Arc::clone(&owed);
    let closed = Arc::new(AtomicBool::new(false));
    let closed_to_us = Arc::clone(&closed);
    thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || {
            loop {
                let stream = match theirs.accept() {
                    Ok((stream, _)) => stream,
                    Err(_) if closed_to_us.load(Ordering::Acquire) => return,
                    // Too many files, or somebody who did not wait.
                    Err(_) => {
                        thread::sleep(Duration::from_millis(100));
                        continue;
                    }
                };
                if clients.fetch_add(1, Ordering::Relaxed) >= MAX_CLIENTS {
                    clients.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                let (mailbox, here) = (mailbox.clone(), Arc::clone(&clients));
                let owing = Arc::clone(&owing);
                let serve = move || {
                    let _ = serve(&stream, &mailbox, &owing);
                    here.fetch_sub(1, Ordering::Relaxed);
                };
                if thread::Builder::new()
                    .name("client".to_owned())
                    .spawn(serve)
                    .is_err()
                {
                    clients.fetch_sub(1, Ordering::Relaxed);
                }
            }
        })?;
    Ok(Listening {
        listener,
        owed,
        closed,
    })
}

/// One client, line by line.
fn serve(stream: &UnixStream, mailbox: &Mailbox, owing: &AtomicUsize) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        (&mut reader).take(MAX_LINE).read_line(&mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        owing.fetch_add(1, Ordering::AcqRel);
        let answer = match serde_json::from_str(&line) {
            Ok(request) => forward(request, mailbox),
            Err(error) => Answer::failed(format!("this request is not understood: {error}"), 2),
        };
        let written = serde_json::to_string(&answer)
            .map_err(io::Error::from)
            .and_then(|text| (&*stream).write_all(format!("{text}\n").as_bytes()));
        owing.fetch_sub(1, Ordering::AcqRel);
        written?;
    }
}

fn forward(request: Request, mailbox: &Mailbox) -> Answer {
    let (sender, receiver) = mpsc::sync_channel(1);
    mailbox.send(Mail::Control(request, sender));
    receiver.recv_timeout(WORK).unwrap_or_else(|_| {
        Answer::failed(
            "the monitor ended, or is stuck: see the system's log".to_owned(),
            6,
        )
    })
}
