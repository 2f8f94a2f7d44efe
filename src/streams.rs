//! Byte streams of connections: what the gRPC server, the operations server and the Redis client have in common.

pub(crate) mod limit;
pub(crate) mod permit;
pub(crate) mod signal;
pub(crate) mod turn;
pub(crate) mod untaken;
