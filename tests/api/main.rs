//! The binary as its callers meet it: over gRPC, on both stores, through kills, outages, races and rotations.
//!
//! `site` starts servers, `caller` calls them, `words` tells answers apart. The others are the tests, by theme.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says then what it did"
)]

mod attacks;
mod audit;
mod caller;
mod callers;
mod certificates;
mod cluster;
mod collector;
mod crash;
mod crowd;
mod dial;
#[path = "../support/dice.rs"]
mod dice;
mod envoy;
#[path = "../support/envoy.rs"]
mod envoy_server;
mod failover;
mod flows;
mod followed;
mod front;
mod google;
mod hostile;
mod http_client;
#[path = "../provider/server.rs"]
#[expect(dead_code, reason = "the tests of the executor need more of it")]
mod http_server;
mod identity;
mod iserveu;
mod json;
mod kinds;
mod lateness;
mod lifecycle;
mod lockouts;
mod managed;
mod outage;
mod providers;
mod races;
mod raw_http2;
#[path = "../support/cluster.rs"]
#[expect(dead_code, reason = "the tests of the store use the rest of it")]
mod redis_cluster;
#[path = "../support/sentinel.rs"]
#[expect(dead_code, reason = "the tests of the store use the rest of it")]
mod redis_sentinel;
#[path = "../support/redis.rs"]
mod redis_server;
mod refusing;
mod relay;
mod replicas;
mod replies;
mod retire;
mod rotation;
mod routes;
mod sandbox;
mod secrecy;
mod seeds;
mod sentinel;
mod site;
mod tamper;
mod telemetry;
mod texts;
mod trouble;
mod upstream;
mod upstream_secrecy;
mod vonage;
mod web;
mod wibmo;
mod words;
