//! A network between the machine and its server, which can be cut, pulled out
//! and reset: a namespace `server` behind a pair of veth.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::machine::Machine;
use crate::reset::Resetter;
use crate::server::{self, Place, Server};

pub const SERVER: Place = Place {
    namespace: Some("server"),
    address: "10.77.0.2",
};
pub const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// How long `reset_connections` tries: a reset is believed only if it comes before the
/// next packet does, which on a busy machine takes some of them.
const RESET: Duration = Duration::from_secs(20);

/// The network; it goes away when dropped. The machine is 10.77.0.1 and fd77::1
/// at `to-server`, the server 10.77.0.2 and fd77::2 at `to-client`.
pub struct Net<'a> {
    machine: &'a Machine,
}

impl<'a> Net<'a> {
    pub fn new(machine: &'a Machine) -> Self {
        // Addresses of IPv6 are lost with their link, unless told to stay.
        machine.sh("modprobe -a ipv6 veth sch_netem
            ip netns add server
            ip link add to-server type veth peer name to-client netns server
            sysctl -q net.ipv6.conf.to-server.keep_addr_on_down=1
            ip netns exec server sysctl -q net.ipv6.conf.to-client.keep_addr_on_down=1
            ip -b - <<<'addr add 10.77.0.1/24 dev to-server
                addr add fd77::1/64 dev to-server nodad
                link set to-server up'
            ip -n server -b - <<<'addr add 10.77.0.2/24 dev to-client
                addr add fd77::2/64 dev to-client nodad
                link set lo up
                link set to-client up'");
        Self { machine }
    }

    // ── servers ──

    pub fn qemu_nbd(&self, image: &Path, port: u16, extra: &[&str]) -> Server {
        server::qemu_nbd_at(SERVER, image, port, extra)
    }

    pub fn nbdkit(&self, image: &Path, port: u16, filters: &[&str], parameters: &[&str]) -> Server {
        server::nbdkit_at(SERVER, image, port, filters, parameters)
    }

    pub fn nbd_server(&self, image: &Path, port: u16) -> Server {
        server::nbd_server_at(SERVER, self.machine, image, port)
    }

    // ── faults ──

    /// Packets vanish both ways; nobody is told.
    pub fn cut(&self) {
        self.machine
            .sh("tc qdisc replace dev to-server root netem loss 100%
            tc -n server qdisc replace dev to-client root netem loss 100%");
    }

    pub fn heal(&self) {
        self.machine.sh("tc qdisc del dev to-server root
            tc -n server qdisc del dev to-client root");
    }

    /// Our interface is set down: sending is refused at once, for want of a route.
    pub fn link_down(&self) {
        self.machine.sh("ip link set to-server down");
    }

    pub fn link_up(&self) {
        self.machine.sh("ip link set to-server up");
    }

    /// The cable is out: our interface has an address, a route and no carrier.
    pub fn unplug(&self) {
        self.machine.sh("ip -n server link set to-client down");
    }

    pub fn plug(&self) {
        self.machine.sh("ip -n server link set to-client up");
    }

    /// Gives the server one more address, in 10.77.0.0/24.
    pub fn add_address(&self, address: &str) {
        self.machine
            .sh(&format!("ip -n server addr add {address}/24 dev to-client"));
    }

    pub fn remove_address(&self, address: &str) {
        self.machine
            .sh(&format!("ip -n server addr del {address}/24 dev to-client"));
    }

    /// As a firewall in the middle that lost its state: TCP connections over IPv4
    /// between the two are reset, on both sides, with the next packets that they
    /// exchange. How many ends of connections are gone, and when ours were.
    pub fn reset_connections(&self) -> (usize, Instant) {
        let before = self.connections();
        let ours = our_ends();
        Resetter::new(OURS).run(RESET, || our_ends().iter().all(|one| !ours.contains(one)));
        let at = Instant::now();
        let after = self.connections();
        let gone = before.iter().filter(|one| !after.contains(one));
        (gone.count(), at)
    }

    /// Both ends of every connection that is established.
    pub fn connections(&self) -> Vec<String> {
        let both = self.machine.sh("ss -Htn state established src 10.77.0.0/24
            ss -N server -Htn state established src 10.77.0.0/24");
        let ends = both.lines().map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields[2..].join(" ")
        });
        ends.collect()
    }
}

/// Established connections of our address, by the kernel's own list, which costs
/// no process.
fn our_ends() -> Vec<String> {
    let address = format!("{:08X}:", u32::from_le_bytes(OURS.octets()));
    let list = fs::read_to_string("/proc/net/tcp").unwrap();
    let ends = list.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, peer, state) = (fields.next()?, fields.next()?, fields.next()?);
        (local.starts_with(&address) && state == "01").then(|| format!("{local} {peer}"))
    });
    ends.collect()
}

impl Drop for Net<'_> {
    fn drop(&mut self) {
        let _ = self
            .machine
            .try_sh("ip netns del server; ip link del to-server 2>/dev/null || true");
    }
}
