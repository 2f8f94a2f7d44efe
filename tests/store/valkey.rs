//! The suite over one Valkey.

use crate::{
    redis::{RedisHarness, over},
    redis_server::{Program, RedisServer},
};

async fn next(program: Program) -> RedisHarness {
    over(RedisServer::start_as(program, &[])).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_case_in_turn() {
    let Some(program) = Program::valkey() else { return };
    crate::conformance_in_turn!(next(program));
}
