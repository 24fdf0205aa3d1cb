//! What can be typed. Nothing here looks at the machine.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use super::boot::BootArgs;
use super::hidden_args::{GenerateArgs, OnDeviceArgs, ResolveArgs, UdevNamesArgs};
use crate::config::{
    BlockSize, Bounds, Connections, DataPath, DeadTimeout, Name, NameError, Resize, device_index,
    parse_identity,
};
use crate::kernel::Device;

/// Attach network block devices, and keep them attached.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_STATUS)]
pub(super) struct Args {
    /// Say more on standard error
    #[arg(short, long, global = true)]
    pub(super) verbose: bool,
    /// Look for the configuration below DIR instead of / (for tests, and for
    /// systems that are mounted somewhere). An option, as the environment of one
    /// nbdctl would reach the others that it starts.
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "DIR",
        default_value = "/"
    )]
    pub(super) config_root: PathBuf,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

const EXIT_STATUS: &str = "\
Exit status:
  0  done
  1  it failed
  2  wrong usage
  3  no such device or export
  4  the server refused
  5  the kernel refused (module missing, busy, no right)
  6  timed out";

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Attach an export and print its device
    Attach(Box<AttachArgs>),
    /// Detach a device that nobody uses
    Detach(DetachArgs),
    /// Show how attached devices are
    Status(StatusArgs),
    /// List the exports of a server
    List(ListArgs),
    /// Show what a server offers for an export
    Info(InfoArgs),
    /// Show the extents of an export, and what they hold
    Map(MapArgs),
    /// Write zeroes to a range of an export
    Zero(ZeroArgs),
    /// Discard a range of an export: what it held is lost
    Discard(RangeArgs),
    /// Keep an export attached, in the foreground (attach starts this)
    Monitor(MonitorArgs),
    /// Carry a device's requests to servers that speak more than the kernel (a monitor
    /// starts this)
    Relay,
    /// Find what would keep a device from working, or holds one
    Doctor(DoctorArgs),
    /// Check the configuration, or show what will be done
    Config(ConfigArgs),
    /// Wait on a device in a process of its own (nbdctl runs this)
    #[command(hide = true)]
    OnDevice(OnDeviceArgs),
    /// Resolve a name in a process of its own (nbdctl runs this)
    #[command(hide = true)]
    Resolve(ResolveArgs),
    /// Detach an export whose unit is stopped, and not restarted (the unit runs this)
    #[command(hide = true)]
    UnitStop(UnitStopArgs),
    /// Tell all monitors that the machine goes down (a unit runs this)
    #[command(hide = true)]
    ShuttingDown(super::unit::ShuttingDownArgs),
    /// Print what udev is to know of a device (its rule runs this)
    #[command(hide = true)]
    UdevNames(UdevNamesArgs),
    /// Attach what the kernel's command line names (an initramfs runs this)
    #[command(hide = true)]
    Boot(BootArgs),
    /// Write man pages and completions to a folder
    #[command(hide = true)]
    Generate(GenerateArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct UnitStopArgs {
    /// The name of the export, which is the unit's instance
    pub(super) name: Name,
}

/// What is not typed is as the configuration has it for a NAME, and as by default
/// for a URI.
#[derive(Debug, Default, clap::Args)]
pub(super) struct AttachArgs {
    /// nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH, or the NAME of a
    /// configured export
    #[arg(value_name = "URI|NAME")]
    pub(super) export: String,
    /// Call it NAME [default: made from the URI]
    #[arg(long, value_parser = new_name)]
    pub(super) name: Option<Name>,
    /// Use this device [default: the first free one]
    #[arg(long, value_name = "/dev/nbdN", value_parser = device_index)]
    pub(super) device: Option<u32>,
    /// Refuse writes
    #[arg(long)]
    pub(super) read_only: bool,
    /// Connections to the server, 1 to 16; several need io_timeout to outlast its
    /// slowest answer, so a lost link is noticed later, but with a relay [default: 1]
    #[arg(long, value_name = "N")]
    pub(super) connections: Option<Connections>,
    /// Who moves the data: "kernel", no process of nbdctl's; "relay", a process that
    /// knows extended headers and loses no write to a server's volatile cache; "auto",
    /// the kernel, unless the server requires extended headers [default: auto]
    #[arg(long, value_name = "PATH")]
    pub(super) path: Option<DataPath>,
    /// Logical block size: 512, 1024, 2048 or 4096 [default: 512, or the
    /// server's minimum]
    #[arg(long, value_name = "BYTES")]
    pub(super) block_size: Option<BlockSize>,
    /// How long I/O waits for a lost server to come back, in seconds, or
    /// "infinity" [default: 600]
    #[arg(long, value_name = "SECONDS")]
    pub(super) dead_timeout: Option<DeadTimeout>,
    /// How long a server may be silent that owes an answer, before its link is
    /// cut, in seconds; slowness is no silence [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = |text: &str| Bounds::SILENCE_TIMEOUT.read(text))]
    pub(super) silence_timeout: Option<Duration>,
    /// How long a returned server is left alone after such a cut, in seconds: it
    /// may still be at what it had read [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = |text: &str| Bounds::SETTLE_TIME.read(text))]
    pub(super) settle_time: Option<Duration>,
    /// Patience once the machine goes down, in seconds [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = |text: &str| Bounds::SHUTDOWN_TIMEOUT.read(text))]
    pub(super) shutdown_timeout: Option<Duration>,
    /// How long the first session may take, in seconds [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = |text: &str| Bounds::CONNECT_TIMEOUT.read(text))]
    pub(super) connect_timeout: Option<Duration>,
    /// How often a request that was in flight when its link died looks for a new
    /// one, in ms; with several connections, the longest that an answer may take
    /// [default: 1000, or 30000 with several]
    #[arg(long, value_name = "MS", value_parser = |text: &str| Bounds::IO_TIMEOUT.read(text))]
    pub(super) io_timeout: Option<Duration>,
    /// The UUID of a file system on it, or its GPT's GUID: no other disk is
    /// attached, or reconnected to
    #[arg(long, value_name = "UUID", value_parser = identity)]
    pub(super) identity: Option<String>,
    /// What to do when the export has grown: "next-attach", or "live" (README)
    /// [default: next-attach]
    #[arg(long, value_name = "WHEN")]
    pub(super) resize: Option<Resize>,
    /// Not supported yet, and refused: sessions are in plaintext
    #[arg(long)]
    pub(super) tls: bool,
    /// Print the device's status as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct DetachArgs {
    /// /dev/nbdN or a NAME
    #[arg(value_name = "DEVICE|NAME", required_unless_present = "all")]
    pub(super) target: Option<String>,
    /// Detach every device that nbdctl attached
    #[arg(long, conflicts_with = "target")]
    pub(super) all: bool,
    /// Detach even what is in use, or another program's: its I/O will fail
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// /dev/nbdN or a NAME [default: every device that nbdctl attached]
    #[arg(value_name = "DEVICE|NAME")]
    pub(super) target: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct MonitorArgs {
    /// The NAME that it is attached under
    pub(super) name: Name,
    /// Take the settings from standard input, and tell on standard output when the
    /// device is usable
    #[arg(long, hide = true)]
    pub(super) for_attach: bool,
    /// Wait until the monitor at the other end of standard input is gone, and take its place
    #[arg(long, hide = true, conflicts_with = "for_attach")]
    pub(super) standby: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// nbd://HOST[:PORT] or nbd+unix:///?socket=PATH
    pub(super) uri: String,
    #[command(flatten)]
    pub(super) timeout: Timeout,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct InfoArgs {
    /// nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH
    pub(super) uri: String,
    #[command(flatten)]
    pub(super) timeout: Timeout,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct MapArgs {
    /// nbd://HOST[:PORT]/EXPORT, or the /dev/nbdN or NAME of an attached one
    #[arg(value_name = "URI|DEVICE|NAME")]
    pub(super) export: String,
    /// The metadata context
    #[arg(long, default_value = "base:allocation")]
    pub(super) context: String,
    /// List the metadata contexts instead
    #[arg(long)]
    pub(super) list_contexts: bool,
    /// Where to begin, in bytes; suffixes K, M, G, T, P, E are powers of 1024
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = bytes)]
    pub(super) offset: u64,
    /// How much [default: all from there]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(super) length: Option<u64>,
    #[command(flatten)]
    pub(super) timeout: Timeout,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ZeroArgs {
    #[command(flatten)]
    pub(super) range: RangeArgs,
    /// Keep the space allocated
    #[arg(long)]
    pub(super) no_hole: bool,
    /// Only if it is quicker than writing zeroes
    #[arg(long)]
    pub(super) fast: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct RangeArgs {
    /// nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH
    pub(super) uri: String,
    /// Where to begin, in bytes; suffixes K, M, G, T, P, E are powers of 1024
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = bytes)]
    pub(super) offset: u64,
    /// How much [default: all from there]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(super) length: Option<u64>,
    /// Even on an export that is attached here
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) timeout: Timeout,
    /// How long one request may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = clap::value_parser!(u32).range(1..))]
    request_timeout: u32,
}

impl RangeArgs {
    pub(super) fn answer_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout.into())
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    pub(super) verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigVerb {
    /// Tell all that is wrong in /etc/nbdctl and /etc/nbdtab
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what will be done with an export, and where each value comes from
    Show {
        /// The NAME of a configured export
        name: Name,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Timeout {
    /// How long the server may take to answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
}

impl Timeout {
    pub(super) fn duration(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }
}

/// `4096`, `16T`
fn bytes(text: &str) -> Result<u64, &'static str> {
    const BAD: &str = "give a number of bytes, like 4096, 512M or 16T";
    let (digits, shift) = match text.find(|c: char| !c.is_ascii_digit()) {
        None => (text, 0),
        Some(at) => {
            let (digits, suffix) = text.split_at(at);
            let power = "KMGTPE".find(&suffix.to_ascii_uppercase());
            let power = power.filter(|_| suffix.len() == 1).ok_or(BAD)?;
            (digits, 10 * (power + 1))
        }
    };
    let number: u64 = digits.parse().map_err(|_| BAD)?;
    number
        .checked_mul(1 << shift)
        .ok_or("that is more than 2^64 bytes")
}

/// A device's name goes with its device, so nobody needs to choose it.
fn new_name(text: &str) -> Result<Name, String> {
    let name: Name = text.parse().map_err(|error: NameError| error.to_string())?;
    match name.device() {
        Some(index) => Err(format!(
            "that is a device: choose another name, or --device /dev/nbd{index}"
        )),
        None => Ok(name),
    }
}

fn identity(text: &str) -> Result<String, &'static str> {
    parse_identity(text).ok_or("give a UUID, as blkid shows it (UUID or PTUUID)")
}

pub(super) fn device(text: &str) -> Result<Device, &'static str> {
    Device::by_name(text).ok_or("give /dev/nbdN, the whole disk")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    /// A host is never an option, whatever it is called.
    #[test]
    fn the_hidden_verbs_are_what_runs_them_says() {
        let args = Args::try_parse_from(["nbdctl", crate::session::RESOLVE, "--", "--help", "7"]);
        let Verb::Resolve(args) = args.unwrap().verb else {
            panic!("another verb");
        };
        assert_eq!((args.host.as_str(), args.port), ("--help", 7));
    }

    #[test]
    fn bytes_take_binary_suffixes_and_nothing_else() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("16T"), Ok(16 << 40));
        assert_eq!(bytes("1k"), Ok(1024));
        for text in [
            "",
            "T",
            "-1",
            "1.5G",
            "1KB",
            "1KiB",
            "16E",
            "99999999999999999999",
            "1\u{df}",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
