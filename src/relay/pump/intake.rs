//! The kernel's requests, read one after the other and given to the engine. It must
//! not know what becomes of them.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::BufferId;
use super::batch::Batch;
use super::buffers::LONGEST;
use super::input::{self, Input};
use super::{Core, News, Pump};
use crate::proto::transmission::{COMPACT_REQUEST_LEN, Command, Request};

/// How long the kernel waits at most until it is asked again whether there is room:
/// whoever makes some says so.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The intake's thread: until the kernel disconnects, or hangs up.
pub(super) fn run(pump: &Arc<Pump>) {
    let mut intake = Intake {
        pump,
        input: Input::new(),
        batch: Batch::new(),
    };
    let why = intake.read();
    pump.news(News::KernelGone(why));
}

struct Intake<'a> {
    pump: &'a Pump,
    input: Input,
    batch: Batch,
}

/// The kernel's end says no more, or nothing that can be understood.
enum End {
    /// It disconnected with manners.
    Disconnected,
    /// It hung up.
    HungUp,
    /// It sends what is no request.
    Nonsense(String),
}

impl<'a> Intake<'a> {
    fn read(&mut self) -> Option<String> {
        let end = loop {
            if let Err(end) = self.next() {
                break end;
            }
        };
        self.batch.carry(self.pump);
        match end {
            End::Disconnected | End::HungUp => {}
            End::Nonsense(ref why) => tracing::error!("what the kernel sends: {why}"),
        }
        let mut core = self.pump.core();
        core.engine.wind_down();
        self.batch.collect(&mut core, self.pump);
        drop(core);
        self.batch.carry(self.pump);
        match end {
            End::Nonsense(why) => Some(why),
            _ => None,
        }
    }

    fn next(&mut self) -> Result<(), End> {
        let request = self.header()?;
        if request.command == Command::DISC {
            return Err(End::Disconnected);
        }
        let length = usize::try_from(request.length).unwrap_or(usize::MAX);
        let buffer = match request.command {
            Command::WRITE => {
                self.wait_for_room(&request)?;
                Some(self.payload(length)?)
            }
            Command::READ => {
                self.wait_for_room(&request)?;
                // One that is refused for its length needs none.
                (length <= LONGEST)
                    .then(|| self.place(length))
                    .transpose()?
            }
            _ => {
                self.wait_for_room(&request)?;
                None
            }
        };
        let pump = self.pump;
        let mut core = self.while_taken();
        core.engine.kernel_request(request, buffer);
        self.batch.collect(&mut core, pump);
        Ok(())
    }

    /// The lock, when requests are taken. In a drain they are not: what comes then is
    /// for a successor, or for later where the drain is called off.
    fn while_taken(&mut self) -> MutexGuard<'a, Core> {
        let pump = self.pump;
        let mut core = pump.core();
        while pump.draining.load(Ordering::Acquire) {
            if !self.batch.is_empty() {
                drop(core);
                self.batch.carry(pump);
                core = pump.core();
                continue;
            }
            let waited = pump.room.wait(core);
            core = waited.unwrap_or_else(PoisonError::into_inner);
        }
        core
    }

    fn header(&mut self) -> Result<Request, End> {
        loop {
            if let Some(header) = self.input.bytes().first_chunk::<COMPACT_REQUEST_LEN>() {
                let request = Request::parse_compact(header);
                self.input.consume(COMPACT_REQUEST_LEN);
                return request.map_err(|violation| End::Nonsense(violation.to_string()));
            }
            self.batch.carry(self.pump);
            match self.input.fill(self.pump.kernel.as_fd()) {
                Ok(0) | Err(_) => return Err(End::HungUp),
                Ok(_) => {}
            }
        }
    }

    /// Waits until a request can be taken: nothing else is, meanwhile.
    fn wait_for_room(&mut self, request: &Request) -> Result<(), End> {
        let pump = self.pump;
        loop {
            let mut core = self.while_taken();
            if has_room(&mut core, pump, request) {
                return Ok(());
            }
            // A FLUSH of the engine's own, for one.
            self.batch.collect(&mut core, pump);
            if !self.batch.is_empty() {
                drop(core);
                self.batch.carry(pump);
                continue;
            }
            pump.intake_waits.store(true, Ordering::SeqCst);
            // Whoever made room before that did not see that somebody waits.
            if !has_room(&mut core, pump, request) {
                let waited = pump.room.wait_timeout(core, LOOK_AGAIN);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
            }
            pump.intake_waits.store(false, Ordering::SeqCst);
            // Nothing is read from it meanwhile that would say so.
            if input::has_hung_up(pump.kernel.as_fd()) {
                return Err(End::HungUp);
            }
        }
    }

    /// The data of a WRITE.
    fn payload(&mut self, length: usize) -> Result<BufferId, End> {
        let buffers = &self.pump.buffers;
        let Some(buffer) = buffers.take(length) else {
            return Err(End::Nonsense(format!("a write of {length} bytes")));
        };
        let filled = buffers.write(buffer).is_some_and(|mut data| {
            let place = data.get_mut(..length).unwrap_or_default();
            let there = self.input.move_to(place);
            let rest = place.get_mut(there..).unwrap_or_default();
            if rest.is_empty() {
                return true;
            }
            self.batch.carry(self.pump);
            input::fill(self.pump.kernel.as_fd(), rest).unwrap_or(false)
        });
        if filled {
            return Ok(buffer);
        }
        buffers.release(buffer);
        Err(End::HungUp)
    }

    /// Where the data of a READ will be.
    fn place(&self, length: usize) -> Result<BufferId, End> {
        let buffer = self.pump.buffers.take_to_read(length);
        buffer.ok_or_else(|| End::Nonsense(format!("too many requests, a read of {length} bytes")))
    }
}

fn has_room(core: &mut Core, pump: &Pump, request: &Request) -> bool {
    let reads = request.command == Command::READ;
    core.engine.has_room(request) && (!reads || pump.buffers.has_room_to_read(request.length))
}
