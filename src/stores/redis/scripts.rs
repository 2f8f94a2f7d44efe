//! The scripts. They compare, write and count; no rule is in them. Each file states its contract.

use std::sync::LazyLock;

use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value, aio::MultiplexedConnection};

use crate::ports::store::Sealed;

/// See `commit.lua`.
pub(super) static COMMIT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("commit.lua")));
/// See `claim.lua`.
pub(super) static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("claim.lua")));
/// See `locate.lua`.
pub(super) static LOCATE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("locate.lua")));
/// See `acquire.lua`.
pub(super) static ACQUIRE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("acquire.lua")));

// commit.lua compares bytes 5 to 28.
const _: () = assert!(Sealed::VERSION_OFFSET == 5 && Sealed::VERSION_LENGTH == 24);

/// Room for keys and arguments besides records. An estimate: a command grows where it needs more.
const ARGUMENTS: usize = 16;
const ARGUMENT_BYTES: usize = 512;

/// A script, and the hash by which a server knows it.
pub(super) struct Script {
    source: &'static str,
    hash: String,
}

impl Script {
    fn new(source: &'static str) -> Self {
        Self { source, hash: redis::Script::new(source).get_hash().to_owned() }
    }

    /// Runs the script: one command, or two where the server has forgotten it. `add` adds keys and arguments to the command.
    ///
    /// A server that does not know the script has run nothing, so it can be asked again.
    pub(super) async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        records: usize,
        keys: usize,
        add: impl Fn(&mut Cmd),
    ) -> RedisResult<Value> {
        let command = |verb: &str, script: &str| {
            let mut command = Cmd::with_capacity(ARGUMENTS, ARGUMENT_BYTES + records);
            command.arg(verb).arg(script).arg(keys);
            add(&mut command);
            command
        };
        match command("EVALSHA", &self.hash).query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                command("EVAL", self.source).query_async(connection).await
            }
            answer => answer,
        }
    }
}
