//! The few system calls without a safe wrapper, and what the process may do.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until a descriptor can be read; false when the time passed.
pub(super) fn wait_readable(owner: &impl AsRawFd, wait: Duration) -> nix::Result<bool> {
    // SAFETY: `owner` keeps the descriptor open while it is borrowed, which is
    // no longer than this function; neli's sockets offer no AsFd.
    let fd = unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) };
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
    Ok(poll(&mut fds, timeout)? > 0)
}

/// Another descriptor of what one is of.
pub(super) fn duplicate(owner: &impl AsRawFd) -> nix::Result<OwnedFd> {
    // SAFETY: as in `wait_readable`.
    let fd = unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) };
    fd.try_clone_to_owned()
        .map_err(|error| Errno::try_from(error).unwrap_or(Errno::EMFILE))
}

/// Whether the other side of a stream socket has closed it.
pub(super) fn is_hung_up(socket: &impl AsFd) -> bool {
    // The driver answers the end of the stream by shutting the socket down.
    let hung_up = PollFlags::POLLHUP | PollFlags::POLLERR;
    let mut fds = [PollFd::new(socket.as_fd(), hung_up)];
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds
            .first()
            .and_then(PollFd::revents)
            .is_some_and(|events| events.intersects(hung_up))
}

/// Whether this process has CAP_SYS_ADMIN in effect, which every command but
/// STATUS needs.
#[must_use]
pub fn has_sys_admin() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|caps| (caps >> CAP_SYS_ADMIN) & 1 == 1)
}

/// `struct tcp_info`, as much of it as this kernel has; `None` where the socket
/// is not TCP.
pub(super) fn tcp_info(socket: &impl AsFd) -> Option<Vec<u8>> {
    let mut bytes = vec![0u8; 512];
    let mut length = libc::socklen_t::try_from(bytes.len()).ok()?;
    // SAFETY: the kernel writes `length` bytes at most, and the buffer has them;
    // the descriptor is open while it is borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            bytes.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(result).ok()?;
    bytes.truncate(usize::try_from(length).ok()?);
    Some(bytes)
}

/// Dissolves a TCP connection at once, with an RST to the peer.
pub(super) fn disconnect_tcp(socket: &impl AsFd) -> nix::Result<()> {
    // AF_UNSPEC is 0, as is all the rest that the kernel does not look at.
    let nowhere = [0u8; size_of::<libc::sockaddr_in>()];
    let length = libc::socklen_t::try_from(nowhere.len()).unwrap_or_default();
    // SAFETY: the kernel reads `length` bytes, and copies them before it looks;
    // the descriptor is open while it is borrowed.
    let result =
        unsafe { libc::connect(socket.as_fd().as_raw_fd(), nowhere.as_ptr().cast(), length) };
    Errno::result(result).map(drop)
}

/// Marks the thread as one that I/O depends on: what it allocates starts none.
pub(super) fn set_io_flusher() -> nix::Result<()> {
    // Not in every libc.
    const PR_SET_IO_FLUSHER: libc::c_int = 57;
    let (yes, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: it takes numbers only.
    let result = unsafe { libc::prctl(PR_SET_IO_FLUSHER, yes, none, none, none) };
    Errno::result(result).map(drop)
}

/// Keeps in memory what the process touched and touches from now on.
pub(super) fn lock_memory() -> nix::Result<()> {
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: it takes numbers only.
    let result = unsafe { libc::mlockall(flags) };
    Errno::result(result).map(drop)
}

/// Has pages of this process in memory, now and from now on.
pub(super) fn lock_range(start: usize, length: usize) -> nix::Result<()> {
    // SAFETY: the kernel looks at no memory, and says so where there is none.
    let result = unsafe { libc::mlock(std::ptr::with_exposed_provenance(start), length) };
    Errno::result(result).map(drop)
}

/// A file's pages, in memory as long as this is.
#[derive(Debug)]
pub(super) struct Mapping {
    start: usize,
    length: usize,
}

impl Mapping {
    /// Reads all of it, which waits for its disk.
    pub(super) fn of(file: &fs::File, length: usize) -> nix::Result<Self> {
        // SAFETY: a new mapping, wherever the kernel likes; nobody reads through it.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let mapping = Self {
            start: start.expose_provenance(),
            length,
        };
        lock_range(mapping.start, length)?;
        Ok(mapping)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was made by `of`, and is unmapped once.
        unsafe {
            libc::munmap(
                std::ptr::with_exposed_provenance_mut(self.start),
                self.length,
            )
        };
    }
}

/// A handle of the process that has this number now. It is closed in programs that
/// are started.
pub(super) fn pidfd_open(pid: u32) -> nix::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::ESRCH)?;
    let no_flags: libc::c_uint = 0;
    // SAFETY: it takes numbers only.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, no_flags) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends SIGKILL to the process of a handle.
pub(super) fn pidfd_kill(process: &OwnedFd) -> nix::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    let no_flags: libc::c_uint = 0;
    let (fd, signal) = (process.as_raw_fd(), libc::SIGKILL);
    // SAFETY: the descriptor is open while it is borrowed, and without siginfo the kernel
    // reads no memory.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, no_info, no_flags) };
    Errno::result(result).map(drop)
}

/// Names the thread.
pub(super) fn set_name(name: &CStr) {
    // SAFETY: the kernel reads up to the terminating zero, which is there.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}
