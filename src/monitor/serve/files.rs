//! What a served device has in /run: written when it changed, and again when
//! somebody removed it.

use std::time::Duration;

use super::{Serving, listen};
use crate::monitor::machine::Inheritance;
use crate::monitor::uptime;

/// After it failed; a full /run is not full for ever.
const STORE_AGAIN: Duration = Duration::from_secs(5);

impl Serving<'_> {
    /// /run may be emptied under us; a successor needs what is in it.
    pub(super) fn keep_files(&mut self) {
        let whole = self.runtime.holds(&self.lock) && self.runtime.control_socket().exists();
        if whole || self.detaching.is_some() || self.is_astray() {
            return;
        }
        tracing::warn!("what /run/nbdctl had was removed, and is written again");
        if !self.runtime.holds(&self.lock) {
            match self.runtime.monitor_lock() {
                Ok(Some(lock)) => self.lock = lock,
                // Another serves it by now; two are one too many.
                Ok(None) => {
                    self.leaving = true;
                    return;
                }
                Err(error) => {
                    tracing::warn!("{error}");
                    return;
                }
            }
        }
        self.stored = None;
        self.persist();
        match listen::listen(&self.runtime.control_socket(), &self.work.mailbox) {
            Ok(listening) => self.listening = Some(listening),
            Err(error) => tracing::warn!("control.sock: {error}"),
        }
    }

    /// Writes what a successor has to know, where that has changed.
    pub(super) fn persist(&mut self) {
        let legacy = self.machine.legacy(self.now());
        // What goes on by itself, or is for people only, is worth no writing.
        let comparable = |legacy: &Inheritance| {
            let mut legacy = legacy.clone();
            legacy.out_for = legacy.out_for.map(|_| Duration::ZERO);
            legacy.history.last_error = None;
            legacy
        };
        let is_known = self.stored.as_ref() == Some(&comparable(&legacy));
        if is_known || self.now() < self.store_at {
            return;
        }
        self.stored = Some(comparable(&legacy));
        self.store();
    }

    pub(super) fn store(&mut self) {
        self.state.inheritance = self.machine.legacy(self.now());
        self.state.written_at = uptime();
        if let Err(error) = self.runtime.store(&self.state) {
            self.stored = None;
            self.store_at = self.now() + STORE_AGAIN;
            tracing::warn!("{error}");
        }
    }
}
