//! The scripts: compare-and-swap, the index and quotas, and nothing of the rules, which are in the domain. Each file states
//! its contract.

use std::sync::LazyLock;

use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value, aio::ConnectionLike};

use super::connection::Connection;
use crate::ports::store::Sealed;

/// See `commit.lua`.
pub(super) static COMMIT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("commit.lua")));
/// See `claim.lua`.
pub(super) static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("claim.lua")));
/// See `locate.lua`.
pub(super) static LOCATE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("locate.lua")));
/// See `acquire.lua`.
pub(super) static ACQUIRE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("acquire.lua")));
/// See `read.lua`.
pub(super) static READ: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("read.lua")));

// commit.lua compares bytes 5 to 28.
const _: () = assert!(Sealed::VERSION_OFFSET == 5 && Sealed::VERSION_LENGTH == 24);

/// Before a script whose answer replicas must confirm: writes the last key, which is gone soon, so that there is always
/// something to confirm that is later than all that the script reads.
const MARK: &str = "redis.call('SET', table.remove(KEYS), '', 'PX', 1000)\n";

/// Room for keys and arguments besides records. An estimate: a command grows where it needs more.
const ARGUMENTS: usize = 16;
const ARGUMENT_BYTES: usize = 512;

/// A script, and the same behind a mark.
pub(super) struct Script {
    plain: ScriptText,
    marking: ScriptText,
}

/// The text of a script, and the hash by which a server knows it.
struct ScriptText {
    text: String,
    hash: String,
}

impl ScriptText {
    fn new(text: String) -> Self {
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }
}

impl Script {
    fn new(text: &str) -> Self {
        Self { plain: ScriptText::new(text.to_owned()), marking: ScriptText::new(format!("{MARK}{text}")) }
    }

    /// Runs the script: one command, or two where the server has forgotten it. `add` adds keys and arguments to the command.
    ///
    /// A server that does not know the script has run nothing, so it can be asked again.
    pub(super) async fn run(
        &self,
        connection: &mut Connection,
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
        match command("EVALSHA", &self.plain.hash).query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                command("EVAL", &self.plain.text).query_async(connection).await
            }
            answer => answer,
        }
    }

    /// Runs the script behind a mark, and `then` after it on the same connection, so that both concern the same server. The
    /// keys that `add` adds end with the mark. Both answers.
    pub(super) async fn run_and(
        &self,
        connection: &mut Connection,
        keys: usize,
        add: impl Fn(&mut Cmd),
        then: &Cmd,
    ) -> RedisResult<(Value, Value)> {
        let ask = async |connection: &mut Connection, verb: &str, script: &str| -> RedisResult<(Value, Value)> {
            let mut command = redis::cmd(verb);
            command.arg(script).arg(keys);
            add(&mut command);
            let mut both = redis::pipe();
            both.add_command(command).add_command(then.clone());
            let mut answers = connection.req_packed_commands(&both, 0, 2).await?.into_iter();
            let mut next = || answers.next().unwrap_or(Value::Nil).extract_error();
            Ok((next()?, next()?))
        };
        match ask(connection, "EVALSHA", &self.marking.hash).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                ask(connection, "EVAL", &self.marking.text).await
            }
            answer => answer,
        }
    }
}
