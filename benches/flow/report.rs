//! The figures, as a table.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{
    caller::{Step, Taken, histogram},
    target::{Kind, Place, Target},
};

/// One step of one round.
pub(crate) struct Measured {
    pub(crate) taken: Taken,
    pub(crate) cpu: Duration,
    pub(crate) redis_cpu: Duration,
    pub(crate) operations: u64,
}

/// One step of all rounds.
pub(crate) struct Figures {
    calls: u64,
    span: Duration,
    cpu: Duration,
    redis_cpu: Duration,
    operations: u64,
    microseconds: Histogram<u64>,
}

impl Figures {
    pub(crate) fn new() -> Self {
        let zero = Duration::ZERO;
        Self { calls: 0, span: zero, cpu: zero, redis_cpu: zero, operations: 0, microseconds: histogram() }
    }

    pub(crate) fn add(&mut self, measured: &Measured) {
        self.calls += measured.taken.calls;
        self.span += measured.taken.span;
        self.cpu += measured.cpu;
        self.redis_cpu += measured.redis_cpu;
        self.operations += measured.operations;
        self.microseconds.add(&measured.taken.microseconds).expect("the same bounds");
    }

    fn per_second(&self) -> f64 {
        as_f64(self.calls) / self.span.as_secs_f64()
    }

    fn per_call(&self, span: Duration) -> f64 {
        span.as_secs_f64() * 1e6 / as_f64(self.calls)
    }

    fn quantile(&self, quantile: f64) -> f64 {
        as_f64(self.microseconds.value_at_quantile(quantile)) / 1000.0
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

pub(crate) fn print(targets: &[Target], figures: &[[Figures; 3]]) {
    println!(
        "| Server, store | Call | Calls/s | Of the bare server | p50 ms | p99 ms | Server µs/call | Redis µs/call | Redis commands/call |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (target, steps) in targets.iter().zip(figures) {
        let yardstick = yardstick(target.place, targets, figures);
        for (index, (step, figures)) in Step::ALL.into_iter().zip(steps).enumerate() {
            let bare = yardstick.and_then(|bare| bare.get(index)).filter(|_| target.kind == Kind::Otpd);
            let ratio =
                bare.map_or("–".to_owned(), |bare| format!("{:.2}", figures.per_second() / bare.per_second()));
            let (redis_cpu, operations) = match target.place {
                Place::Embedded => ("–".to_owned(), "–".to_owned()),
                Place::RedisSocket | Place::RedisTcp => (
                    format!("{:.0}", figures.per_call(figures.redis_cpu)),
                    format!("{:.2}", as_f64(figures.operations) / as_f64(figures.calls)),
                ),
            };
            println!(
                "| {} | {} | {:.0} | {ratio} | {:.1} | {:.1} | {:.0} | {redis_cpu} | {operations} |",
                target.name(),
                step.name(),
                figures.per_second(),
                figures.quantile(0.5),
                figures.quantile(0.99),
                figures.per_call(figures.cpu),
            );
        }
    }
}

/// The bare server on the same store; for the embedded store, which it cannot have, the one on the socket.
fn yardstick<'a>(place: Place, targets: &[Target], figures: &'a [[Figures; 3]]) -> Option<&'a [Figures; 3]> {
    let place = if place == Place::Embedded { Place::RedisSocket } else { place };
    let bare = |(target, _): &(&Target, &[Figures; 3])| target.kind == Kind::Bare && target.place == place;
    targets.iter().zip(figures).find(bare).map(|(_, figures)| figures)
}
