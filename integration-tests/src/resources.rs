use std::fs;
use std::time::{Duration, Instant};

/// What this process holds: what a leak would grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Open descriptors.
    pub fds: usize,
    /// Threads.
    pub threads: usize,
    /// Mappings of memfds; others come and go with the allocator.
    pub maps: usize,
}

impl Resources {
    /// Counts now.
    pub fn now() -> Self {
        let count = |directory: &str| fs::read_dir(directory).unwrap().count();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        Self {
            // One is that of the directory itself.
            fds: count("/proc/self/fd") - 1,
            threads: count("/proc/self/task"),
            maps: maps.lines().filter(|line| line.contains("memfd:")).count(),
        }
    }

    /// Fails unless the process holds no more than `self` again, which threads and a runtime that are
    /// ending, and other tests of the program, may take a while for.
    #[track_caller]
    pub fn assert_back(self) {
        let deadline = Instant::now() + crate::scale::patience();
        loop {
            let now = Self::now();
            if now.fds <= self.fds && now.threads <= self.threads && now.maps <= self.maps {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "left behind: {now:?} after {self:?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Resident memory, bytes.
    pub fn resident() -> u64 {
        status("VmRSS:") * 1024
    }

    /// How often the threads of this process went to sleep and were woken, all together.
    pub fn switches() -> u64 {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        tasks
            .filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok())
            .map(|status| field(&status, "voluntary_ctxt_switches:"))
            .sum()
    }

    /// CPU time of this process.
    pub fn cpu() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(
            time.tv_sec.try_into().unwrap(),
            time.tv_nsec.try_into().unwrap(),
        )
    }
}

fn status(name: &str) -> u64 {
    field(&fs::read_to_string("/proc/self/status").unwrap(), name)
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
