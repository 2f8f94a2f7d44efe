//! What lets a request in at a provider beyond fixed headers: a token that is fetched and runs out, a signature over the whole
//! request. It stands between the adapter, which knows no time and asks nobody, and the client.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    Inbound, Outbound,
    client::{Client, NoAnswer, Prepared},
};
use crate::{
    domain::time::Timestamp,
    ports::clock::{Clock, Deadline},
};

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
    clock: &'a dyn Clock,
    deadline: Deadline,
}

impl Outside<'_> {
    /// The time of day.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time on the monotonic clock.
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// When the call must have ended.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Asks a server, through the client of the provider; `None` where no answer comes.
    pub async fn ask(&self, request: &Outbound) -> Option<Inbound> {
        self.client.exchange(Prepared::new(request)?, self.deadline).await.ok()
    }
}

/// One exchange with a provider, whose request is authorised first where it has an authority.
pub(super) async fn exchange(
    authority: Option<&dyn Authority>,
    (client, clock): (&Client, &Arc<dyn Clock>),
    request: &Outbound,
    prepared: Prepared,
    deadline: Deadline,
) -> Result<Inbound, NoAnswer> {
    let Some(authority) = authority else { return client.exchange(prepared, deadline).await };
    let outside = Outside { client, clock: clock.as_ref(), deadline };
    let mut is_again = false;
    loop {
        let authorised = authority.authorise(request, &outside).await.map_err(|denied| match denied {
            Denied::Unavailable(reason) => NoAnswer::NothingSent(reason),
            Denied::Refused(reason) => NoAnswer::Denied(reason),
        })?;
        let prepared = Prepared::new(&authorised.request).ok_or(NoAnswer::Denied("the credentials fit no header"))?;
        let answer = client.exchange(prepared, deadline).await?;
        if is_again || !authority.is_outdated(authorised.credentials, &answer) {
            return Ok(answer);
        }
        is_again = true;
    }
}
