//! The end of a simulation: everything works again, callers ask again, and operators look.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use otpd::service::request::LockoutOwner;

use super::Simulation;
use crate::{
    checker::{Call, History, Last, Told, is_compared},
    requests::{caller, of_account, request_id},
    world::Replica,
};

impl Simulation {
    pub(super) async fn history(&self) -> History {
        self.world.faults.heal();
        let replica = self.start(0);
        self.ask_again(&replica).await;
        self.replicas.lock().unwrap().clear();
        // Refunds after answers are done once all others have gone: what is still to come counts as lost.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let mut history = History {
            calls: self.calls.lock().unwrap().clone(),
            operations: self.operations.lock().unwrap().clone(),
            ..History::default()
        };
        let challenges = self.challenges.lock().unwrap().clone();
        for known in challenges {
            let about = known.about;
            let seen = replica.otp.get_challenge(caller("get"), request_id(&about.challenge)).await;
            if let Ok(view) = seen {
                history.challenges.push(Last { about: about.clone(), state: view.state, sends: view.options[0].1 });
            }
            let contact = LockoutOwner::Contact(known.destination);
            let owner = if about.owner == about.account { of_account(&about.account) } else { contact.clone() };
            history.failures.insert(about.owner, replica.lockout(owner).await.failures);
            history.sends.insert(about.contact, uses(&replica, contact, "destination_sends").await);
            let account = of_account(&about.account);
            history.creations.insert(about.account, uses(&replica, account, "account_creations").await);
        }
        for provider in &self.world.providers {
            history.mails.extend(provider.outbox());
            history.questions.extend(provider.questions());
        }
        history
    }

    /// What is on record is told again. Nothing else is asked: it would be another attempt.
    async fn ask_again(&self, replica: &Replica) {
        let calls = self.calls.lock().unwrap().clone();
        let on_record = |call: &&Call| matches!(&call.told, Told::Verified(verified) if is_compared(verified));
        let recorded = calls.iter().filter(on_record);
        let requests: BTreeMap<_, _> = recorded.map(|call| ((&call.about.challenge, &call.id), call)).collect();
        for call in requests.into_values() {
            let otp = call.typed.clone().unwrap_or_default();
            let started = self.order.fetch_add(1, Ordering::SeqCst);
            let told = replica.verify(&call.about.challenge, &call.id, &otp).await;
            let told = told.map_or(Told::Nothing, Told::Verified);
            let ended = self.order.fetch_add(1, Ordering::SeqCst);
            let ended_at = self.world.now();
            self.calls.lock().unwrap().push(Call { started, ended, ended_at, told, ..call.clone() });
        }
    }
}

/// How many uses of a quota count.
async fn uses(replica: &Replica, owner: LockoutOwner, quota: &str) -> u32 {
    let quotas = replica.lockout(owner).await.quotas;
    quotas.into_iter().filter(|usage| usage.quota == quota).map(|usage| usage.uses).sum()
}
