//! The control socket: orders of monitors, and reports to them. It must not know what
//! an order does.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::super::message::{Begin, MAX_LINE, Order, Report};
use super::News;
use super::report::Board;

/// Who may be connected at a time: the monitor there is, one that takes over, and
/// whoever asks how it is.
const READERS: usize = 16;

/// How often figures are told.
const FIGURES: Duration = Duration::from_secs(1);

/// How soon after a report the next one follows.
const PAUSE: Duration = Duration::from_millis(100);

/// The control socket, and who is connected.
pub(super) struct Control {
    listener: UnixListener,
    readers: Vec<Reader>,
    board: Arc<Board>,
    news: Sender<News>,
    told_at: Instant,
}

struct Reader {
    stream: UnixStream,
    line: Vec<u8>,
    told: Option<Report>,
    /// Its end is the relay's, as long as there is no device.
    first: bool,
}

impl Control {
    pub(super) fn new(socket: OwnedFd, board: Arc<Board>, news: Sender<News>) -> io::Result<Self> {
        let listener = UnixListener::from(socket);
        // Which the one that made it may have set, or not.
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            readers: Vec::new(),
            board,
            news,
            told_at: Instant::now(),
        })
    }

    /// Waits for the first connection and its first order.
    pub(super) fn first_order(&mut self, allowed: Duration) -> Result<Begin, String> {
        let silent = || "no monitor came with an order".to_owned();
        let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let wait = PollTimeout::try_from(allowed).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut fds, wait);
        let (stream, _) = self.listener.accept().map_err(|_| silent())?;
        stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(allowed)))
            .map_err(|error| error.to_string())?;
        let mut line = String::new();
        // Byte by byte: what follows is for the one that reads later.
        let mut reader = BufReader::with_capacity(1, (&stream).take(MAX_LINE));
        reader.read_line(&mut line).map_err(|_| silent())?;
        let order = serde_json::from_str(&line);
        let Ok(Order::Begin(begin)) = order else {
            return Err("the first order is none to begin".to_owned());
        };
        stream
            .set_nonblocking(true)
            .map_err(|error| error.to_string())?;
        self.readers.push(Reader {
            stream,
            line: Vec::new(),
            told: None,
            first: true,
        });
        self.board.readers(1);
        Ok(begin)
    }

    fn turn(&mut self) {
        let mut fds = vec![
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.board.woken().as_fd(), PollFlags::POLLIN),
        ];
        let readers = self.readers.iter();
        fds.extend(readers.map(|reader| PollFd::new(reader.stream.as_fd(), PollFlags::POLLIN)));
        let wait = if self.readers.is_empty() {
            PollTimeout::NONE
        } else {
            PollTimeout::try_from(FIGURES).unwrap_or(PollTimeout::MAX)
        };
        let _ = poll(&mut fds, wait);
        drop(fds);
        self.accept();
        self.listen();
        let mut drained = [0; 64];
        let mut woken = self.board.woken();
        let changed = matches!(woken.read(&mut drained), Ok(count) if count > 0);
        let untold = self.readers.iter().any(|reader| reader.told.is_none());
        if changed || untold || self.told_at.elapsed() >= FIGURES {
            if changed && !untold {
                std::thread::sleep(PAUSE.saturating_sub(self.told_at.elapsed()));
            }
            self.tell();
        }
        self.board.readers(self.readers.len());
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.readers.len() < READERS && stream.set_nonblocking(true).is_ok() {
                self.readers.push(Reader {
                    stream,
                    line: Vec::new(),
                    told: None,
                    first: false,
                });
            }
        }
    }

    fn listen(&mut self) {
        let news = &self.news;
        self.readers.retain_mut(|reader| {
            let stays = reader.read(news);
            if !stays && reader.first {
                let _ = news.send(News::Unwatched);
            }
            stays
        });
    }

    fn tell(&mut self) {
        self.told_at = Instant::now();
        let report = self.board.report();
        let Ok(mut line) = serde_json::to_vec(&report) else {
            return;
        };
        line.push(b'\n');
        // One that does not read is no use: it may come back.
        self.readers.retain_mut(|reader| {
            let same = reader.told.as_ref() == Some(&report);
            same || {
                reader.told = Some(report.clone());
                reader.stream.write_all(&line).is_ok()
            }
        });
    }
}

impl Reader {
    /// Takes what came; whether more can.
    fn read(&mut self, news: &Sender<News>) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(count) => self
                    .line
                    .extend_from_slice(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
            while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                match serde_json::from_slice(&line) {
                    Ok(Order::Tell {}) => self.told = None,
                    Ok(order) => {
                        let _ = news.send(News::Order(order));
                    }
                    // Of a monitor that knows more: it sees that nothing comes of it.
                    Err(error) => tracing::warn!("an order that is none here: {error}"),
                }
            }
            if u64::try_from(self.line.len()).unwrap_or(u64::MAX) > MAX_LINE {
                return false;
            }
        }
    }
}

/// The control's thread, for as long as the process lives.
pub(super) fn run(mut control: Control) {
    loop {
        control.turn();
    }
}
