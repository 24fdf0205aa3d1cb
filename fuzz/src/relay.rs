//! The relay's decisions, without what carries them out.

#[path = "../../src/relay/action.rs"]
mod action;
#[path = "../../src/relay/asked.rs"]
mod asked;
#[path = "../../src/relay/engine/mod.rs"]
mod engine;
#[path = "../../src/relay/ids.rs"]
mod ids;
#[path = "../../src/relay/log.rs"]
mod log;
#[path = "../../src/relay/offer.rs"]
mod offer;
#[path = "../../src/relay/plan.rs"]
mod plan;
#[path = "../../src/relay/sessions.rs"]
mod sessions;
#[path = "../../src/relay/translate.rs"]
mod translate;

pub use action::{Action, Step};
pub use engine::{Engine, Limits};
pub use ids::{BufferId, SessionId};
pub use log::LogLimits;
pub use offer::Offer;
