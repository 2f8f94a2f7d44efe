//! Which server program a test runs, where it is found, and ports of its own.

use std::{
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
};

/// A server that speaks the protocol of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// `redis-server` of the system.
    Redis,
    /// `valkey-server`: of `VALKEY_SERVER`, else the one that scripts/test has fetched, else of the system.
    Valkey,
}

impl Program {
    /// Valkey; nothing where `SKIP_VALKEY=1` says that its tests are left out. A missing program is no reason to leave
    /// them out: they fail, and say what to do.
    pub(crate) fn valkey() -> Option<Self> {
        (variable("SKIP_VALKEY").as_deref() != Some("1")).then_some(Self::Valkey)
    }

    /// A command that runs it.
    pub(crate) fn command(self) -> Command {
        Command::new(match self {
            Self::Redis => PathBuf::from("redis-server"),
            Self::Valkey => valkey_path(),
        })
    }

    /// Fails the test for want of the program.
    pub(crate) fn missing(self, error: &std::io::Error) -> ! {
        let advice = match self {
            Self::Redis => "apt-get install redis-server, or run scripts/test",
            Self::Valkey => {
                "run scripts/test, which fetches it; or name it in VALKEY_SERVER; or leave its tests out with \
                 SKIP_VALKEY=1"
            }
        };
        panic!("cannot run {self:?} ({error}): these tests need it. {advice}")
    }
}

fn valkey_path() -> PathBuf {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/valkey-server");
    let named = variable("VALKEY_SERVER").map(PathBuf::from);
    named.or_else(|| fetched.exists().then_some(fetched)).unwrap_or_else(|| PathBuf::from("valkey-server"))
}

#[expect(clippy::disallowed_methods, reason = "where a program of the tests is, is no setting of otpd")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A TCP port of the loopback that is the test's alone, also while the server on it is dead.
///
/// It is below the ports that connections are given by the system, and no other test acquires it: the UDP port of the same
/// number is bound for as long as this lives.
pub(crate) struct Port {
    number: u16,
    _reserved: UdpSocket,
}

impl Port {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;

    /// Reserves one.
    pub(crate) fn reserve() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Processes start at different numbers, so that they seldom try the same one.
        let first = u16::try_from(std::process::id() * 61 % u32::from(Self::COUNT)).expect("a port");
        for _ in 0..Self::COUNT {
            let offset = (u32::from(first) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % u32::from(Self::COUNT);
            let number = Self::FIRST + u16::try_from(offset).expect("a port");
            let Ok(reserved) = UdpSocket::bind(("127.0.0.1", number)) else { continue };
            if TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self { number, _reserved: reserved };
            }
        }
        panic!("no port of the loopback is free");
    }

    /// Its number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
