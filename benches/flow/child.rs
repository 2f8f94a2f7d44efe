//! A server in a process of its own, and what the system tells of it.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Ends when dropped.
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("a server"))
    }

    /// The processor time that it has used.
    pub(crate) fn cpu(&self) -> Duration {
        cpu(self.0.id())
    }

    /// The memory that it holds, in MiB.
    pub(crate) fn resident(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        let kib: u32 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        f64::from(kib) / 1024.0
    }

    pub(crate) fn assert_runs(&mut self) {
        if let Ok(Some(status)) = self.0.try_wait() {
            panic!("the server has ended: {status}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

/// User and system time, in the fixed ticks of 10 ms that `proc(5)` shows.
fn cpu(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    // The second field is the name, which may hold spaces.
    let (_, fields) = stat.rsplit_once(") ").expect("the fields after the name");
    let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number"));
    Duration::from_millis(10 * ticks.sum::<u64>())
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}
