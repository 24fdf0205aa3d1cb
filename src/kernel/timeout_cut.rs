//! Cutting a silent link that the kernel alone has, where it has no `SOCK_DESTROY`:
//! by the driver's own timer (`nbd_xmit_timeout`).
//!
//! With `NBD_ATTR_TIMEOUT` the driver shuts down the link of any request that it
//! finds unanswered at an io_timeout. It sends a FIN and no RST: a peer that only
//! slept goes on with writes that it has got and not done.

use std::thread;
use std::time::{Duration, Instant};

use super::error::Error;
use super::family::NbdAttribute;
use super::netlink::Netlink;
use super::sysfs::Device;

/// What the block layer's timer may be late (1.28 s at 100 Hz), and some more.
const LATE: Duration = Duration::from_secs(2);

/// The block layer's default.
const IO_TIMEOUT: Duration = Duration::from_secs(30);

impl Netlink {
    /// Has the driver cut the link of the requests in flight, until `is_dead`;
    /// false when it was not by the time that it must, and when nothing is in
    /// flight. It takes io_timeout and a second: call it where that may be waited
    /// for. A device with several connections does it of itself.
    ///
    /// It cannot cut a link whose send buffer is full: a sender holds it.
    ///
    /// It leaves `queue/io_timeout` at 30 s. Write the right value as soon as the
    /// link is live and nothing is in flight. Who is killed in here leaves a
    /// driver that cuts slow links, until [`Netlink::end_timeout`].
    ///
    /// # Errors
    ///
    /// As any command.
    pub fn cut_by_timeout(
        &self,
        index: u32,
        backend: &str,
        mut is_dead: impl FnMut() -> bool,
    ) -> Result<bool, Error> {
        let device = Device::new(index);
        if device.in_flight() == Some(0) {
            return Ok(false);
        }
        let io_timeout = device
            .attribute("queue/io_timeout")
            .and_then(|text| text.parse().ok())
            .map_or(IO_TIMEOUT, Duration::from_millis);
        self.change(index, backend, NbdAttribute::Timeout, 1)?;
        let until = Instant::now() + io_timeout + LATE;
        let mut dead = is_dead();
        while !dead && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
            dead = is_dead();
        }
        // Before there is a new link, or that gets a time-out of its own.
        self.end_timeout(index, backend)?;
        Ok(dead)
    }

    /// Has the driver cut no link for slowness; `queue/io_timeout` becomes 30 s.
    ///
    /// # Errors
    ///
    /// As any command.
    pub fn end_timeout(&self, index: u32, backend: &str) -> Result<(), Error> {
        self.change(index, backend, NbdAttribute::Timeout, 0)
    }
}
