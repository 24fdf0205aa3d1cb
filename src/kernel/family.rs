//! The `nbd` generic netlink family's numbers and shapes
//! (`include/uapi/linux/nbd-netlink.h`), on neli.

use neli::attr::Attribute;
use neli::consts::genl::{Cmd, NlAttrType};
use neli::genl::{
    AttrTypeBuilder, Genlmsghdr, GenlmsghdrBuilder, Nlattr, NlattrBuilder, NoUserHeader,
};
use neli::types::{Buffer, GenlBuffer};
use neli::{Size, ToBytes};

use super::error::Error;

/// The family's name and version.
pub(super) const FAMILY: &str = "nbd";
const VERSION: u8 = 1;
/// The group that LINK_DEAD is sent to.
pub(super) const MULTICAST_GROUP: &str = "nbd_mc_group";

#[allow(unreachable_pub, missing_docs)]
mod numbers {
    /// Commands.
    #[neli::neli_enum(serialized_type = "u8")]
    pub enum NbdCommand {
        Connect = 1,
        Disconnect = 2,
        Reconfigure = 3,
        LinkDead = 4,
        Status = 5,
    }

    /// Attributes of a command.
    #[neli::neli_enum(serialized_type = "u16")]
    pub enum NbdAttribute {
        Index = 1,
        SizeBytes = 2,
        BlockSizeBytes = 3,
        Timeout = 4,
        ServerFlags = 5,
        ClientFlags = 6,
        Sockets = 7,
        DeadConnTimeout = 8,
        DeviceList = 9,
        BackendIdentifier = 10,
    }

    /// Attributes in `Sockets` and `DeviceList`.
    #[neli::neli_enum(serialized_type = "u16")]
    pub enum Item {
        Item = 1,
    }

    /// Attributes in a socket's item.
    #[neli::neli_enum(serialized_type = "u16")]
    pub enum SocketAttribute {
        Fd = 1,
    }

    /// Attributes in a device's item.
    #[neli::neli_enum(serialized_type = "u16")]
    pub enum DeviceAttribute {
        Index = 1,
        Connected = 2,
    }
}
pub(super) use numbers::{DeviceAttribute, Item, NbdAttribute, NbdCommand, SocketAttribute};

impl Cmd for NbdCommand {}
impl NlAttrType for NbdAttribute {}
impl NlAttrType for Item {}
impl NlAttrType for SocketAttribute {}
impl NlAttrType for DeviceAttribute {}

/// One message of the family.
pub(super) type Message = Genlmsghdr<NbdCommand, NbdAttribute>;
pub(super) type Attributes = GenlBuffer<NbdAttribute, Buffer>;

pub(super) fn message(command: NbdCommand, attributes: Attributes) -> Result<Message, Error> {
    GenlmsghdrBuilder::<NbdCommand, NbdAttribute, NoUserHeader>::default()
        .cmd(command)
        .version(VERSION)
        .attrs(attributes)
        .build()
        .map_err(|e| Error::Netlink(e.to_string()))
}

pub(super) fn attribute<T: NlAttrType + Size, P: Size + ToBytes>(
    kind: T,
    payload: P,
) -> Result<Nlattr<T, Buffer>, Error> {
    let kind = AttrTypeBuilder::default()
        .nla_type(kind)
        .build()
        .map_err(|e| Error::Netlink(e.to_string()))?;
    NlattrBuilder::default()
        .nla_type(kind)
        .nla_payload(payload)
        .build()
        .map_err(|e| Error::Netlink(e.to_string()))
}

/// `NBD_ATTR_SOCKETS`: one item for each descriptor, in order.
pub(super) fn sockets(fds: &[i32]) -> Result<Nlattr<NbdAttribute, Buffer>, Error> {
    let mut list = attribute(NbdAttribute::Sockets, Vec::<u8>::new())?;
    for fd in fds {
        let fd = u32::try_from(*fd).map_err(|_| Error::Netlink("no descriptor".to_owned()))?;
        let item = attribute(Item::Item, Vec::<u8>::new())?
            .nest(&attribute(SocketAttribute::Fd, fd)?)
            .map_err(|e| Error::Netlink(e.to_string()))?;
        list = list
            .nest(&item)
            .map_err(|e| Error::Netlink(e.to_string()))?;
    }
    Ok(list)
}

/// `NBD_ATTR_INDEX` of an answer or a multicast message.
pub(super) fn index(message: &Message) -> Option<u32> {
    message
        .attrs()
        .get_attr_handle()
        .get_attr_payload_as::<u32>(NbdAttribute::Index)
        .ok()
}

/// `NBD_ATTR_DEVICE_LIST`: index and "connected" of each device.
pub(super) fn device_list(message: &Message) -> Result<Vec<(u32, bool)>, Error> {
    let bad = |e: neli::err::DeError| Error::Netlink(e.to_string());
    let handle = message.attrs().get_attr_handle();
    let items = handle
        .get_nested_attributes::<Item>(NbdAttribute::DeviceList)
        .map_err(bad)?;
    items
        .iter()
        .map(|item| {
            let fields = item.get_attr_handle::<DeviceAttribute>().map_err(bad)?;
            let field = |kind| fields.get_attribute(kind);
            let index = field(DeviceAttribute::Index)
                .ok_or_else(|| Error::Netlink("a device without an index".to_owned()))?
                .get_payload_as::<u32>()
                .map_err(bad)?;
            let connected = field(DeviceAttribute::Connected)
                .and_then(|attr| attr.get_payload_as::<u8>().ok())
                .unwrap_or(0);
            Ok((index, connected != 0))
        })
        .collect()
}
