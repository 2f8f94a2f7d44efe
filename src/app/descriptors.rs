//! File descriptors: as many as the process may have, and how many of them connections may use.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Enough for the largest `server.max_connections`.
const ENOUGH: u64 = 1 << 20;

/// What is set apart from connections: 128 files that the embedded store keeps open and 64 of its work (journals, tables
/// being merged, folders), 256 connections of the operations server, 160 to providers, 32 for the rest.
const RESERVE: u64 = 128 + 64 + 256 + 160 + 32;

/// Raises the limit of open files as far as the system allows.
pub(super) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// How many connections may be open at once: what is wanted, or what the limit of open files has room for.
pub(super) fn max_connections(wanted: u32) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = room(limit);
    if u64::from(wanted) > most {
        tracing::warn!(
            wanted,
            most,
            limit,
            "server.max_connections is lowered: the process may open too few files (`ulimit -n`, LimitNOFILE)"
        );
    }
    usize::try_from(u64::from(wanted).min(most)).unwrap_or(usize::MAX)
}

/// What is left beside the reserve. Where that is little, a quarter of all: the reserve is meant for the worst moment.
fn room(limit: u64) -> u64 {
    limit.saturating_sub(RESERVE).max(limit / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_a_reserve() {
        assert_eq!([64, 640, 1_024, 4_736, 20_000].map(room), [16, 160, 384, 4_096, 19_360]);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert!(
            current.is_none_or(|current| current >= maximum.unwrap_or(ENOUGH).min(ENOUGH)),
            "{current:?} {maximum:?}"
        );
    }
}
