//! The scripts. They compare, swap and count; no rule is in them. Each file states its contract.

use std::sync::LazyLock;

use redis::Script;

use crate::ports::store::Sealed;

/// See `insert.lua`.
pub(super) static INSERT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("insert.lua")));
/// See `swap.lua`.
pub(super) static SWAP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("swap.lua")));
/// See `take.lua`.
pub(super) static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("take.lua")));

// swap.lua compares bytes 5 to 28.
const _: () = assert!(Sealed::VERSION_OFFSET == 5 && Sealed::VERSION_LENGTH == 24);
