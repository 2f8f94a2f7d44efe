//! What lets a request in at a provider beyond fixed headers: a token that is fetched and runs out, a signature over the whole
//! request. It stands between the adapter, which knows no time and asks nobody, and the client.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    Inbound, Outbound,
    client::{Client, NoAnswer, Prepared},
};
use crate::{domain::time::Timestamp, ports::clock::Deadline};

/// Authorises requests to one provider.
#[async_trait]
pub trait Authority: Send + Sync {
    /// Adds to a request what lets it in.
    ///
    /// # Errors
    /// There are no credentials, so the request is not sent.
    async fn authorise(&self, request: &Outbound, outside: &Outside<'_>) -> Result<Authorised, Denied>;

    /// Whether the provider refused the credentials of this number, and newer ones can be had: then the request is sent once
    /// more.
    fn is_outdated(&self, _credentials: u64, _answer: &Inbound) -> bool {
        false
    }
}

/// A request that can be sent.
pub struct Authorised {
    /// The request, with what lets it in.
    pub request: Outbound,
    /// Numbers the credentials that it was given.
    pub credentials: u64,
}

/// Why a request cannot be authorised. Nothing of it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Waiting may help.
    Unavailable(&'static str),
    /// Waiting cannot help: whoever gives out credentials refuses to.
    Refused(&'static str),
}

/// What an authority may use: the time, and other servers, until the deadline of the call.
pub struct Outside<'a> {
    client: &'a Client,
    deadline: Deadline,
}

impl Outside<'_> {
    /// The time of day.
    pub fn now(&self) -> Timestamp {
        self.client.clock().now()
    }

    /// The time on the monotonic clock.
    pub fn monotonic(&self) -> Duration {
        self.client.clock().monotonic()
    }

    /// When the call must have ended.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Asks a server, through the client of the provider; `None` where no answer comes.
    pub async fn ask(&self, request: &Outbound) -> Option<Inbound> {
        send(self.client, request, Prepared::new(request)?, self.deadline).await.ok()
    }
}

/// One exchange with a provider, whose request is authorised first where it has an authority.
pub(super) async fn exchange(
    authority: Option<&dyn Authority>,
    client: &Client,
    request: &Outbound,
    prepared: Prepared,
    deadline: Deadline,
) -> Result<Inbound, NoAnswer> {
    let Some(authority) = authority else { return send(client, request, prepared, deadline).await };
    let outside = Outside { client, deadline };
    let mut is_again = false;
    loop {
        let authorised = authority.authorise(request, &outside).await.map_err(|denied| match denied {
            Denied::Unavailable(reason) => NoAnswer::NothingSent(reason),
            Denied::Refused(reason) => NoAnswer::Denied(reason),
        })?;
        let prepared = Prepared::new(&authorised.request).ok_or(NoAnswer::Denied("the credentials fit no header"))?;
        let answer = send(client, &authorised.request, prepared, deadline).await?;
        if is_again || !authority.is_outdated(authorised.credentials, &answer) {
            return Ok(answer);
        }
        is_again = true;
    }
}

/// Sends a request. What provably never left is sent anew once: a server that closes an idle connection just as it is used has
/// not failed.
async fn send(client: &Client, request: &Outbound, first: Prepared, deadline: Deadline) -> Result<Inbound, NoAnswer> {
    match (client.exchange(first, deadline).await, Prepared::new(request)) {
        (Err(NoAnswer::Dropped), Some(second)) => client.exchange(second, deadline).await,
        (ended, _) => ended,
    }
}
