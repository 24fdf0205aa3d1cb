//! What the kernel tells of links that die, unasked. It must not know whose they are.

use std::thread;
use std::time::Duration;

use super::mail::{Mail, Mailbox};
use crate::kernel::LinkDeaths;
use crate::monitor::KERNEL_DEADLINE;

/// Tells of each link that the kernel declares dead, as long as we live.
pub(super) fn listen_to_deaths(mailbox: &Mailbox) {
    /// It is woken by each; this is for nothing but its own end.
    const LONG: Duration = Duration::from_secs(3600);
    let deaths = match LinkDeaths::subscribe(KERNEL_DEADLINE) {
        Ok(deaths) => deaths,
        Err(error) => {
            tracing::warn!("the kernel's news of dead links are not heard: {error}");
            return;
        }
    };
    let mailbox = mailbox.clone();
    let listen = move || {
        loop {
            match deaths.wait(LONG) {
                Ok(indices) => {
                    for index in indices {
                        mailbox.send(Mail::LinkDead(Some(index)));
                    }
                }
                Err(error) => {
                    tracing::debug!("link deaths: {error}");
                    mailbox.send(Mail::LinkDead(None));
                    thread::sleep(Duration::from_secs(1));
                }
            }
        }
    };
    let builder = thread::Builder::new().name("deaths".to_owned());
    if let Err(error) = builder.spawn(listen) {
        tracing::warn!("the kernel's news of dead links are not heard: {error}");
    }
}
