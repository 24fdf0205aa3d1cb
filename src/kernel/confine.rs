//! What a process gives up for good that carries the bytes of servers it need not
//! trust: rights, files, and all system calls but those it works with. It must not know
//! what it works at.

use std::fs;
use std::os::unix::fs::DirBuilderExt;

use nix::libc::{self, c_long};
use nix::sys::mman::munlockall;
use nix::sys::prctl::set_no_new_privs;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::unistd::{Gid, Uid, chdir, chroot, setgroups, setresgid, setresuid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// A folder with nothing in it. No NAME begins like this.
const NOWHERE: &str = "/run/nbdctl/.empty";

/// Nobody's, on every Linux.
const NOBODY: u32 = 65_534;

/// What threads, memory, sockets and time need. No file can be opened, no program
/// started, and no socket made but for TCP and Unix.
const CALLS: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_ppoll,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_futex,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mprotect,
    libc::SYS_brk,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_prctl,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Not on every architecture.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[c_long] = &[libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[c_long] = &[];

/// Which of the rights a process keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// Nothing: it talks to addresses of networks.
    Nothing,
    /// Its user and the sight of the file system, where sockets are.
    Sockets,
}

/// Gives up what is not kept, for good. Call it before there are threads.
///
/// # Errors
///
/// What could not be given up, in words.
pub fn confine(keeps: Keeps) -> Result<(), String> {
    let failed = |what: &'static str| move |error: nix::Error| format!("{what}: {}", error.desc());
    // What is locked in memory counts from now on; beyond its limit there is none to be
    // had, so that none is locked where the limit cannot go.
    if let Err(errno) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        tracing::warn!("memory is not locked: RLIMIT_MEMLOCK: {}", errno.desc());
        munlockall().map_err(failed("munlockall"))?;
    }
    // Whoever is not root has none of that.
    if keeps == Keeps::Nothing && Uid::effective().is_root() {
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o555)
            .create(NOWHERE)
            .map_err(|error| format!("{NOWHERE}: {error}"))?;
        chroot(NOWHERE).map_err(failed("chroot"))?;
        chdir("/").map_err(failed("chdir"))?;
        setgroups(&[]).map_err(failed("setgroups"))?;
        let (group, user) = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
        setresgid(group, group, group).map_err(failed("setresgid"))?;
        setresuid(user, user, user).map_err(failed("setresuid"))?;
    }
    set_no_new_privs().map_err(failed("PR_SET_NO_NEW_PRIVS"))?;
    let filter = filter().map_err(|error| format!("the filter of system calls: {error}"))?;
    apply_filter(&filter).map_err(|error| format!("the filter of system calls: {error}"))
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: std::collections::BTreeMap<_, Vec<SeccompRule>> = CALLS
        .iter()
        .chain(OLD_CALLS)
        .map(|call| (*call, Vec::new()))
        .collect();
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
    let families: Result<Vec<_>, _> = families.into_iter().map(|it| is(0, it)).collect();
    rules.insert(libc::SYS_socket, families?);
    // Whether a socket waits; the number of an interface, which an address may have.
    const FIONBIO: i32 = 0x5421;
    const SIOCGIFINDEX: i32 = 0x8933;
    let requests = [FIONBIO, SIOCGIFINDEX].into_iter().map(|it| is(1, it));
    let requests: Result<Vec<_>, _> = requests.collect();
    rules.insert(libc::SYS_ioctl, requests?);
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let errno = u32::try_from(libc::EPERM).unwrap_or(1);
    let denied = SeccompAction::Errno(errno);
    SeccompFilter::new(rules, denied, SeccompAction::Allow, arch)?.try_into()
}

fn is(argument: u8, value: i32) -> Result<SeccompRule, seccompiler::BackendError> {
    let value = u64::try_from(value).unwrap_or_default();
    let is = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?;
    SeccompRule::new(vec![is])
}
