//! HTTP to providers: requests and answers as values, and the one executor that sends them.

mod breaker;
mod charset;
mod client;
mod executor;
mod inbound;
mod outbound;
mod settings;

pub use executor::HttpProvider;
pub use inbound::Inbound;
pub use outbound::Outbound;
pub use settings::{BaseUrl, HttpSettings};
