//! A relay from its first order to its end. It must not know what becomes of a request.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::super::message::{Begin, Failed, Offered, Order, Promise, Standing};
use super::super::{Engine, Limits};
use super::buffers::Buffers;
use super::control::{self, Control};
use super::dial::Dialler;
use super::redial::Redial;
use super::report::Board;
use super::trouble::Troubles;
use super::{Core, News, Offer, Pump, Wires, buffer_count, intake, spawn};
use crate::proto::transmission::Terms;
use crate::proto::{HeaderStyle, TransmissionFlags};
use crate::session::{Error, Session};

/// How long a monitor may take for its two orders. It waits for the kernel, or for a
/// lock, in between.
const ORDERS: Duration = Duration::from_secs(120);

/// What a relay is given.
pub struct Relaying<'a> {
    /// Its control socket, listening.
    pub control: OwnedFd,
    /// Its end of the pair; nobody else may have it.
    pub kernel: OwnedFd,
    /// See [`Wires`].
    pub wires: Wires,
    /// What nbdctl would exit with.
    pub exit_of: fn(&Error) -> u8,
    /// Gives up what a relay does not need; called once, before there are threads.
    pub confine: &'a dyn Fn(&Begin) -> Result<(), String>,
}

/// Relays until the kernel disconnects, or its end of the pair is closed.
///
/// # Errors
///
/// There was no first session; the monitor went away before there was a device; what
/// was answered could not be flushed in the end: for people, and what to exit with.
pub fn run(relaying: Relaying<'_>) -> Result<(), (String, u8)> {
    let failed = |why: String| (why, 1);
    let (sender, news) = mpsc::channel();
    let board = Arc::new(Board::new().map_err(|error| failed(error.to_string()))?);
    let mut control = Control::new(relaying.control, Arc::clone(&board), sender.clone())
        .map_err(|error| failed(format!("the control socket: {error}")))?;
    let begin = control.first_order(ORDERS).map_err(failed)?;
    let confined = (relaying.confine)(&begin);
    spawn("control", move || control::run(control));
    if let Err(why) = confined {
        let why = format!("the relay does not begin with more rights than it needs: {why}");
        let (exit, stalled) = (1, false);
        return Err(report_failure(&board, Failed { why, exit, stalled }));
    }
    let dialler = Dialler::new(&begin, relaying.exit_of).map_err(failed)?;
    let session = match dialler.first(Duration::from_millis(begin.connect_timeout_ms)) {
        Ok(session) => session,
        Err(why) => return Err(report_failure(&board, why)),
    };
    board.change(|report| {
        report.standing = Standing::Connected;
        report.offered = Some(offered(&session));
    });
    let promise = match await_promise(&news) {
        Ok(promise) => promise,
        Err(why) => return Err(failed(why)),
    };
    let limits = limits(&begin);
    let pump = Arc::new(Pump {
        core: Mutex::new(Core {
            engine: Engine::new(device(promise), limits),
            links: Vec::with_capacity(16),
            troubles: Troubles::new(),
        }),
        room: Condvar::new(),
        intake_waits: AtomicBool::new(false),
        draining: AtomicBool::new(false),
        buffers: Buffers::new(buffer_count(limits.log, limits.depth), limits.log.bytes),
        kernel: relaying.kernel,
        answering: Mutex::new(()),
        news: Mutex::new(sender),
        wires: relaying.wires,
        settle_time: Duration::from_millis(begin.settle_time_ms),
    });
    reserve(&pump.buffers, promise);
    board.has(&pump);
    let mut redial = Redial::new(Arc::clone(&pump), board, dialler, &begin, news);
    redial.admit(session).map_err(failed)?;
    let taking = Arc::clone(&pump);
    if !spawn("intake", move || intake::run(&taking)) {
        return Err(failed("there is no thread to be had".to_owned()));
    }
    redial.run().map_err(failed)
}

/// What requests find at once, so that none waits for memory that the machine can find
/// only by writing to this device.
fn reserve(buffers: &Buffers, promise: Promise) {
    buffers.reserve(128, 4 << 10);
    buffers.reserve(8, 64 << 10);
    buffers.reserve(2, usize::try_from(promise.max_request).unwrap_or(0));
}

fn report_failure(board: &Board, why: Failed) -> (String, u8) {
    let told = (why.why.clone(), why.exit);
    board.change(|report| report.failed = Some(why));
    // The monitor hangs up when it has read that.
    board.linger(Duration::from_secs(2));
    told
}

fn await_promise(news: &Receiver<News>) -> Result<Promise, String> {
    let until = Instant::now() + ORDERS;
    loop {
        match news.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(News::Order(Order::Serve(promise))) => return Ok(promise),
            Ok(News::Unwatched) => return Err("the monitor is gone".to_owned()),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => return Err("the monitor is silent".to_owned()),
            Err(RecvTimeoutError::Disconnected) => return Err("there is no control".to_owned()),
        }
    }
}

fn limits(begin: &Begin) -> Limits {
    let mut limits = Limits::default();
    if begin.log_bytes > 0 {
        limits.log.bytes = begin.log_bytes;
    }
    limits
}

/// What the kernel was told, as an engine wants it.
fn device(promise: Promise) -> Offer {
    Offer {
        terms: Terms {
            style: HeaderStyle::Compact,
            max_payload: promise.max_request,
        },
        size: promise.size,
        flags: TransmissionFlags(promise.flags),
        minimum_block: promise.block_size,
    }
}

pub(super) fn offered(session: &Session) -> Offered {
    let export = session.export();
    Offered {
        size: export.size,
        flags: export.flags.0,
        minimum: export.block_sizes.minimum,
        preferred: export.block_sizes.preferred,
        maximum_payload: export.block_sizes.maximum_payload,
        headers: session.header_style().as_str().to_owned(),
    }
}
