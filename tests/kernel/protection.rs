//! What a process that I/O depends on asks of the kernel.

use std::fs;

use nbdctl::kernel::{protect_process, set_process_name};

// A guest's only: it is this very process.
scenario!(
    a_protected_process_is_not_killed_and_not_swapped_and_starts_no_io,
    env = ["NBDCTL_GUEST_NO_NBD"],
    |_machine| {
        // PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE.
        const IO_FLUSHER: u64 = 0x0008_0000 | 0x0010_0000;
        let flags = || {
            let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
            let (_, fields) = stat.rsplit_once(") ").unwrap();
            let flags = fields.split(' ').nth(6).unwrap();
            flags.parse::<u64>().unwrap() & IO_FLUSHER
        };
        let locked = || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|l| l.strip_prefix("VmLck:"));
            line.unwrap().trim() != "0 kB"
        };
        assert_eq!((flags(), locked()), (0, false));
        protect_process();
        set_process_name("nbdctl-scenario");
        assert_eq!((flags(), locked()), (IO_FLUSHER, true));
        let read = |path| fs::read_to_string(path).unwrap();
        assert_eq!(read("/proc/self/oom_score_adj"), "-1000\n");
        assert_eq!(read("/proc/thread-self/comm"), "nbdctl-scenario\n");
        let inherited = std::thread::spawn(flags).join().unwrap();
        assert_eq!(inherited, IO_FLUSHER, "by later threads");
    }
);
