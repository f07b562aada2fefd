//! Who has a region mapped.

use std::fs;

use sinew_core::Error;

use crate::region::{Origin, Region};

/// Who has a [`Region`] mapped, as far as this process can see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Attachments {
    /// The processes that map it, this one included, by number.
    pub pids: Vec<u32>,
    /// Processes whose mappings this one may not see: other users' ones, unless it is root's.
    pub hidden: usize,
    /// Mappings, as the kernel counts them: of a SysV segment alone.
    pub mappings: Option<u64>,
}

impl Attachments {
    /// Whether `pids` are all: nobody was hidden. Processes in other pid namespaces are not counted at all.
    pub fn is_complete(&self) -> bool {
        self.hidden == 0
    }
}

impl Region {
    /// Looks who has it mapped.
    ///
    /// The kernel keeps no list. For a SysV segment it keeps a number; beyond that, this reads proc_pid_maps(5) of
    /// all processes, which takes a while and shows the mappings of those only that this process could trace.
    ///
    /// # Errors
    ///
    /// If /proc is not to be had.
    pub fn attachments(&self) -> Result<Attachments, Error> {
        let mut found = Attachments {
            mappings: match self.origin() {
                Origin::Sysv { .. } => Some(self.sysv_stat()?.attachments),
                _ => None,
            },
            ..Attachments::default()
        };
        let failed = |error| Error::from_io("read", error).with_address("/proc");
        let own = fs::read("/proc/self/maps").map_err(failed)?;
        let start = format!("{:x}-", self.as_ptr(0).as_ptr().addr());
        let Some(identity) = lines(&own)
            .find(|line| line.trim_start_matches('0').starts_with(&start))
            .and_then(identity)
            .map(str::to_owned)
        else {
            return Ok(found);
        };
        for entry in fs::read_dir("/proc").map_err(failed)?.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match fs::read(entry.path().join("maps")) {
                Ok(maps) => {
                    if lines(&maps).any(|line| self::identity(line) == Some(&identity)) {
                        found.pids.push(pid);
                    }
                }
                // Ended meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error)
                    if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
                Err(_) => found.hidden += 1,
            }
        }
        found.pids.sort_unstable();
        Ok(found)
    }
}

fn lines(maps: &[u8]) -> impl Iterator<Item = &str> {
    maps.split(|byte| *byte == b'\n')
        .filter_map(|line| str::from_utf8(line).ok())
}

/// Device and inode of a line: `start-end mode offset device inode path`.
fn identity(line: &str) -> Option<&str> {
    let mut fields = line.splitn(6, ' ');
    let device = fields.nth(3)?;
    let inode = fields.next()?;
    let begin = line.len() - line.get(line.find(device)?..)?.len();
    (inode != "0").then(|| line.get(begin..begin + device.len() + 1 + inode.len()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_line_says() {
        let line =
            "7f5c5c000000-7f5c5c001000 rw-s 00000000 00:1a 4242                     /dev/shm/ring";
        assert_eq!(identity(line), Some("00:1a 4242"));
        assert_eq!(
            identity("7f5c5c000000-7f5c5c001000 rw-p 00000000 00:00 0 "),
            None
        );
        assert_eq!(identity(""), None);
    }

    #[test]
    fn this_process_has_its_own() {
        let (region, _fd) = Region::memfd(4096).unwrap();
        let found = region.attachments().unwrap();
        assert!(found.pids.contains(&std::process::id()), "{found:?}");
        assert_eq!(found.mappings, None);
    }
}
