//! HTTP to providers: requests and answers as values, and the one executor that sends them.

mod authority;
mod charset;
mod client;
mod executor;
mod inbound;
mod oauth2;
mod outbound;
mod proxy;
mod remark;
mod renewable;
mod settings;

pub use authority::{Authorised, Authority, Denied, Outside};
pub use executor::HttpProvider;
pub use inbound::Inbound;
pub(in crate::providers) use oauth2::OAuth2;
pub use outbound::Outbound;
pub use proxy::{ProxyChoice, ProxyVariables};
pub(in crate::providers) use renewable::{Issued, Renewable};
pub(in crate::providers) use settings::trusting;
pub use settings::{BaseUrl, HttpSettings};
