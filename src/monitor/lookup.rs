//! From what a user calls a device to the device.

use super::error::Error;
use super::runtime::Runtime;
use crate::config::{BackendIdentifier, Name};
use crate::kernel::{self, Device};

/// What a user points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `/dev/nbdN` or `nbdN`
    Device(Device),
    /// A NAME.
    Name(Name),
}

impl Target {
    /// Reads an argument. What looks like a device is one, never a NAME.
    ///
    /// # Errors
    ///
    /// [`Error::NoDevice`] for what can be neither.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if let Some(device) = Device::by_name(text) {
            return Ok(Self::Device(device));
        }
        text.parse()
            .map(Self::Name)
            .map_err(|_| Error::NoDevice(text.escape_debug().to_string()))
    }

    /// The configured device that is meant, and its identifier if it is ours.
    ///
    /// # Errors
    ///
    /// [`Error::NotAttached`].
    pub fn find(&self) -> Result<(Device, Option<BackendIdentifier>), Error> {
        match self {
            Self::Device(device) if device.is_configured() => {
                Ok((device.clone(), identifier(device)))
            }
            Self::Device(device) => Err(Error::NotAttached(device.path().display().to_string())),
            Self::Name(name) => by_name(name)?
                .map(|(device, identifier)| (device, Some(identifier)))
                .ok_or_else(|| Error::NotAttached(format!("\"{name}\""))),
        }
    }
}

/// The devices that nbdctl attached, by rising index.
///
/// # Errors
///
/// sysfs cannot be read.
pub fn attached() -> Result<Vec<(Device, BackendIdentifier)>, kernel::Error> {
    Ok(kernel::devices()?
        .into_iter()
        .filter(Device::is_configured)
        .filter_map(|device| identifier(&device).map(|identifier| (device, identifier)))
        .collect())
}

/// The device that is attached under a name.
pub(super) fn by_name(name: &Name) -> Result<Option<(Device, BackendIdentifier)>, kernel::Error> {
    Ok(attached()?
        .into_iter()
        .find(|(_, identifier)| identifier.name() == name))
}

/// The URI that a device of ours was attached from.
///
/// # Errors
///
/// It is not attached, or not ours, or /run does not tell.
pub fn uri_of(target: &Target) -> Result<String, Error> {
    let (device, identifier) = target.find()?;
    let path = || device.path().display().to_string();
    let identifier = identifier.ok_or_else(|| Error::Foreign {
        device: path(),
        by: foreign_owner(&device),
    })?;
    if !kernel::has_sys_admin() {
        return Err(kernel::Error::NoRight.into());
    }
    let state = Runtime::of(identifier.name()).load();
    let state = state.filter(|state| state.backend_identifier == identifier.to_string());
    state
        .map(|state| state.settings.uri.to_string())
        .ok_or_else(|| Error::NotAttached(format!("{}, as far as /run/nbdctl tells,", path())))
}

/// What is known of a device of ours, for whoever must not touch its export.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The device.
    pub device: Device,
    /// Its identifier, which has a hash of its URI.
    pub identifier: BackendIdentifier,
    /// Its URI and the addresses that answer for it; `None` where /run/nbdctl
    /// does not tell, or not to this user.
    pub origin: Option<(String, Vec<String>)>,
}

/// Every device of ours.
///
/// # Errors
///
/// sysfs cannot be read.
pub fn attachments() -> Result<Vec<Attachment>, kernel::Error> {
    let devices = attached()?.into_iter();
    Ok(devices
        .map(|(device, identifier)| {
            let state = Runtime::of(identifier.name()).load();
            let origin = state.map(|state| {
                let peers = state.links.into_iter().map(|link| link.peer);
                (state.settings.uri.to_string(), peers.collect())
            });
            Attachment {
                device,
                identifier,
                origin,
            }
        })
        .collect())
}

/// What is known of one device, if it is configured and ours; its origin only where
/// /run tells of this very attachment.
#[must_use]
pub fn attachment(device: &Device) -> Option<Attachment> {
    let identifier = identifier(device).filter(|_| device.is_configured())?;
    let state = Runtime::of(identifier.name())
        .load()
        .filter(|state| state.index == device.index())
        .filter(|state| state.backend_identifier == identifier.to_string());
    let origin = state.map(|state| {
        let peers = state.links.into_iter().map(|link| link.peer);
        (state.settings.uri.to_string(), peers.collect())
    });
    Some(Attachment {
        device: device.clone(),
        identifier,
        origin,
    })
}

fn identifier(device: &Device) -> Option<BackendIdentifier> {
    BackendIdentifier::parse(&device.backend()?)
}

/// Who attached a device that is not ours, for people.
pub(super) fn foreign_owner(device: &Device) -> String {
    match device.backend() {
        Some(backend) => format!(
            "another program (identifier \"{}\")",
            backend.escape_debug()
        ),
        None => "another program (it gave no identifier; nbd-client, for one)".to_owned(),
    }
}
