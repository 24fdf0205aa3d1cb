//! Generic netlink as the family needs it: a socket, the family's numbers, and
//! one request with all its answers.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::{fmt, io};

use neli::consts::genl::{CtrlAttr, CtrlAttrMcastGrp, CtrlCmd, Index};
use neli::consts::nl::{GenlId, NlmF, NlmsgerrAttr};
use neli::consts::socket::NlFamily;
use neli::err::SocketError;
use neli::genl::{Genlmsghdr, GenlmsghdrBuilder, NoUserHeader};
use neli::nl::{NlPayload, NlmsghdrBuilder};
use neli::socket::synchronous::NlSocketHandle;
use neli::types::GenlBuffer;
use neli::utils::Groups;
use neli::{FromBytesWithInput, Size, ToBytes};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use super::error::Error;
use super::family::{FAMILY, MULTICAST_GROUP, attribute};

/// A failed exchange, before it is known whose.
pub(super) enum Failure {
    Refused(Errno, String),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<SocketError> for Failure {
    fn from(error: SocketError) -> Self {
        Self::Other(Error::Netlink(error.to_string()))
    }
}

/// Sends one request and reads everything up to its acknowledgement.
pub(super) fn exchange<P, A>(
    handle: &NlSocketHandle,
    family: GenlId,
    sequence: u32,
    request: P,
) -> Result<Vec<A>, Failure>
where
    P: Size + ToBytes + fmt::Debug,
    A: Size + FromBytesWithInput<Input = usize> + fmt::Debug + Clone,
{
    let message = NlmsghdrBuilder::default()
        .nl_type(family)
        .nl_flags(NlmF::REQUEST | NlmF::ACK)
        .nl_seq(sequence)
        .nl_payload(NlPayload::Payload(request))
        .build()
        .map_err(|e| Error::Netlink(e.to_string()))?;
    handle.send(&message)?;
    let mut answers = Vec::new();
    loop {
        for answer in handle.recv::<GenlId, A>()?.0 {
            let answer = answer?;
            // What a command left that was given up on.
            if *answer.nl_seq() != sequence {
                continue;
            }
            match answer.nl_payload() {
                NlPayload::Ack(_) => return Ok(answers),
                NlPayload::Err(error) => {
                    let told = error
                        .ext_ack()
                        .get_attr_handle()
                        .get_attr_payload_as_with_len::<String>(NlmsgerrAttr::Msg)
                        .unwrap_or_default();
                    return Err(Failure::Refused(Errno::from_raw(-error.error()), told));
                }
                NlPayload::Payload(payload) => answers.push(payload.clone()),
                NlPayload::DumpExtAck(_) | NlPayload::Empty => {}
            }
        }
    }
}

/// Opens a socket in a thread of its own, which may go where the family is: older
/// kernels have it in the first network namespace only, and all tell of dead links
/// there alone.
pub(super) fn open_socket() -> Result<NlSocketHandle, Error> {
    if let Err(error) = enter_first_namespace() {
        tracing::debug!("the first network namespace: {error}");
    }
    let failed = |e: SocketError| Error::Netlink(e.to_string());
    let handle =
        NlSocketHandle::connect(NlFamily::Generic, None, Groups::empty()).map_err(failed)?;
    handle.enable_ext_ack(true).map_err(failed)?;
    Ok(handle)
}

/// Takes the calling thread to the network namespace of the first process, if it
/// is in another.
fn enter_first_namespace() -> io::Result<()> {
    const FIRST: &str = "/proc/1/ns/net";
    let first = fs::metadata(FIRST)?.ino();
    if fs::metadata("/proc/thread-self/ns/net")?.ino() == first {
        return Ok(());
    }
    Ok(setns(File::open(FIRST)?, CloneFlags::CLONE_NEWNET)?)
}

/// What the kernel calls the family, and its multicast group.
pub(super) struct Family {
    pub(super) id: u16,
    pub(super) group: Option<u32>,
}

/// Asks the controller for the family and its multicast group.
pub(super) fn resolve(handle: &NlSocketHandle) -> Result<Family, Error> {
    let name = attribute(CtrlAttr::FamilyName, FAMILY)?;
    let request = GenlmsghdrBuilder::<CtrlCmd, CtrlAttr, NoUserHeader>::default()
        .cmd(CtrlCmd::Getfamily)
        .version(2)
        .attrs(std::iter::once(name).collect::<GenlBuffer<_, _>>())
        .build()
        .map_err(|e| Error::Netlink(e.to_string()))?;
    let answers: Vec<Genlmsghdr<CtrlCmd, CtrlAttr>> =
        match exchange(handle, GenlId::Ctrl, 0, request) {
            Ok(answers) => answers,
            Err(Failure::Refused(Errno::ENOENT, _)) => return Err(Error::NoFamily),
            Err(Failure::Refused(errno, _)) => {
                return Err(Error::Netlink(errno.desc().to_owned()));
            }
            Err(Failure::Other(error)) => return Err(error),
        };
    let answer = answers.first().ok_or(Error::NoFamily)?;
    let attributes = answer.attrs().get_attr_handle();
    let id = attributes
        .get_attr_payload_as::<u16>(CtrlAttr::FamilyId)
        .map_err(|e| Error::Netlink(e.to_string()))?;
    let groups = attributes.get_nested_attributes::<Index>(CtrlAttr::McastGroups);
    let group = groups.ok().and_then(|groups| {
        groups.iter().find_map(|group| {
            let fields = group.get_attr_handle::<CtrlAttrMcastGrp>().ok()?;
            let name = fields
                .get_attr_payload_as_with_len::<String>(CtrlAttrMcastGrp::Name)
                .ok()?;
            let id = fields
                .get_attr_payload_as::<u32>(CtrlAttrMcastGrp::Id)
                .ok()?;
            (name == MULTICAST_GROUP).then_some(id)
        })
    });
    Ok(Family { id, group })
}
