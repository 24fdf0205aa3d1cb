//! How a monitor ends: what it leaves behind, and what it tells of it.

use super::Serving;
use crate::kernel::holders;
use crate::monitor::error::Error;
use crate::monitor::reconcile::reconcile_one;
use crate::monitor::runtime::index_lock;
use crate::monitor::{LOCK_DEADLINE, unit};

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The device stays, for a successor.
    Left,
    /// It was detached.
    Detached,
    /// Somebody else took it down.
    Gone,
}

impl Serving<'_> {
    pub(super) fn end(mut self, end: End) -> Result<(), Error> {
        if end == End::Left && self.runtime.holds(&self.lock) {
            self.persist();
        }
        // Nobody is to find a monitor that does not answer.
        if let Some(listening) = self.listening.take() {
            listening.close();
        }
        let words = match (end, &self.refused) {
            (End::Left, Some(why)) => {
                format!("the device stays attached, and has no monitor: {why}")
            }
            (End::Left, None) => "the device stays attached, and has no monitor".to_owned(),
            (End::Detached, _) => "detached".to_owned(),
            (End::Gone, _) => "the device was disconnected, by whomever".to_owned(),
        };
        if end != End::Left {
            self.dismiss_standby();
            self.service.keep(&[]);
            unit::forget(&self.state.settings.name);
        }
        self.service.last_words(&words);
        match end {
            End::Left => {
                tracing::info!("the monitor ends; {} stays attached", self.path());
                self.runtime.leave(self.lock);
                Ok(())
            }
            End::Detached => {
                // What was written since the detach.
                self.runtime.clear()?;
                self.runtime.leave(self.lock);
                self.runtime.tidy();
                Ok(())
            }
            End::Gone => {
                tracing::warn!("{} was disconnected, by whomever", self.path());
                let holders = holders::of(&self.device);
                let _lock = self.runtime.lock(LOCK_DEADLINE)?;
                let _turn = index_lock(LOCK_DEADLINE)?;
                reconcile_one(&self.runtime);
                self.runtime.leave(self.lock);
                self.runtime.tidy();
                if self.announce.is_none() {
                    return Ok(());
                }
                Err(Error::Leaving {
                    device: self.device.path().display().to_string(),
                    holders,
                })
            }
        }
    }
}
