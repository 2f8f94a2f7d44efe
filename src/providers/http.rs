//! HTTP to providers: requests and answers as values, and the one executor that sends them.

mod authority;
mod breaker;
mod charset;
mod client;
mod executor;
mod inbound;
pub(in crate::providers) mod oauth2;
mod outbound;
pub(in crate::providers) mod renewable;
mod settings;

pub use authority::{Authorised, Authority, Denied, Outside};
pub use executor::HttpProvider;
pub use inbound::Inbound;
pub use outbound::Outbound;
pub use settings::{BaseUrl, HttpSettings};
