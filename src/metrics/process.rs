//! The process, as the client libraries of Prometheus tell it: read from `/proc` when it is asked for. Nothing elsewhere.

use std::{fmt, fs};

use prometheus_client::encoding::DescriptorEncoder;
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

use super::{
    family::{single_counter, single_gauge},
    names,
};

/// What `/proc` tells.
#[derive(Debug, PartialEq)]
struct ProcessUse {
    /// In seconds since 1970.
    started: f64,
    /// In seconds.
    cpu: f64,
    /// In bytes.
    memory: f64,
}

/// Writes what can be read.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let (stat, boot) = (fs::read_to_string("/proc/self/stat"), fs::read_to_string("/proc/stat"));
    let used =
        stat.ok().zip(boot.ok()).and_then(|(stat, boot)| read(&stat, &boot, clock_ticks_per_second(), page_size()));
    if let Some(used) = used {
        single_gauge(encoder, &names::START_TIME, used.started)?;
        single_counter(encoder, &names::CPU, used.cpu)?;
        single_gauge(encoder, &names::MEMORY, used.memory)?;
    }
    if let Some(open) = open_fds() {
        single_gauge(encoder, &names::OPEN_FDS, open)?;
    }
    let max = getrlimit(Resource::Nofile).current.and_then(|max| i64::try_from(max).ok());
    single_gauge(encoder, &names::MAX_FDS, max.unwrap_or(i64::MAX))
}

/// Reads `/proc/self/stat` and `/proc/stat` (proc_pid_stat(5), proc_stat(5)).
fn read(stat: &str, boot: &str, ticks_per_second: u64, page_size: usize) -> Option<ProcessUse> {
    // The second field is the name of the program, which may hold blanks and brackets; the third is the first below.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let booted: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let ticks = f64::from(u32::try_from(ticks_per_second).ok()?);
    let page = f64::from(u32::try_from(page_size).ok()?);
    Some(ProcessUse {
        started: booted + field(22)? / ticks,
        cpu: (field(14)? + field(15)?) / ticks,
        memory: field(24)? * page,
    })
}

/// Linux 6.2 and later tell it as the length of the folder; before that they are counted, and with them the one that counts.
fn open_fds() -> Option<i64> {
    let folder = "/proc/self/fd";
    let length = fs::metadata(folder).ok()?.len();
    let count =
        if length > 0 { length } else { fs::read_dir(folder).ok()?.count().saturating_sub(1).try_into().ok()? };
    i64::try_from(count).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let stat = "7 (a) b( 1) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 600 1000000 2000 1 1 1";
        let expected = ProcessUse { started: 1_006.0, cpu: 3.0, memory: 8_192_000.0 };
        assert_eq!(read(stat, "cpu 1 2\nbtime 1000\nprocesses 5\n", 100, 4096), Some(expected));
        for (stat, boot) in [("", "btime 1"), ("7 (a) S 1", "btime 1"), (stat, "")] {
            assert_eq!(read(stat, boot, 100, 4096), None);
        }
    }
}
