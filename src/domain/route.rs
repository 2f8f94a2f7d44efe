//! Which route a send takes: the one whose scope fits most exactly.

use super::{
    destination::{Channel, Destination},
    ids::Tenant,
    purpose::Purpose,
};

/// What is to be sent where.
#[derive(Clone, Copy, Debug)]
pub struct Goal<'a> {
    pub tenant: &'a Tenant,
    pub purpose: Purpose,
    pub channel: Channel,
    pub destination: &'a Destination,
    /// Of the transaction that the person agrees to (ISO 4217).
    pub currency: Option<&'a str>,
}

/// What a route is for; what it does not say fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    pub tenant: Option<Tenant>,
    pub purpose: Option<Purpose>,
    pub channel: Option<Channel>,
    /// How phone numbers begin: a plus and digits, or empty.
    pub prefix: String,
}

impl Scope {
    /// How exactly it fits: the longer prefix wins, then the more it says. `None` where it does not fit.
    pub fn fit(&self, goal: &Goal<'_>) -> Option<(usize, usize)> {
        // By the number as it was given, or as it is since its country renumbered.
        let begins = |prefix: &str| match goal.destination {
            Destination::Phone(number) => {
                number.expose().starts_with(prefix)
                    || goal.destination.canonical().is_some_and(|number| number.starts_with(prefix))
            }
            Destination::Email(_) | Destination::OnFile => prefix.is_empty(),
        };
        let said = [
            self.tenant.as_ref().map(|tenant| tenant == goal.tenant),
            self.purpose.map(|purpose| purpose == goal.purpose),
            self.channel.map(|channel| channel == goal.channel),
        ];
        let fits = begins(&self.prefix) && said.iter().flatten().all(|fits| *fits);
        fits.then(|| (self.prefix.len(), said.iter().flatten().count()))
    }
}

/// The value of the scope that fits best; of several that fit alike, the first.
pub fn best<'a, T>(routes: &'a [(Scope, T)], goal: &Goal<'_>) -> Option<&'a T> {
    let mut found: Option<((usize, usize), &T)> = None;
    for (scope, value) in routes {
        if let Some(fit) = scope.fit(goal)
            && found.is_none_or(|(best, _)| fit > best)
        {
            found = Some((fit, value));
        }
    }
    found.map(|(_, value)| value)
}
