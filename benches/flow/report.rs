//! The measurements, as a table.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{
    caller::{Measured, Step, histogram},
    target::{Kind, Place, Target},
};

/// One step of all rounds.
pub(crate) struct Totals {
    calls: u64,
    span: Duration,
    cpu: Duration,
    redis_cpu: Duration,
    microseconds: Histogram<u64>,
}

impl Totals {
    pub(crate) fn new() -> Self {
        let zero = Duration::ZERO;
        Self { calls: 0, span: zero, cpu: zero, redis_cpu: zero, microseconds: histogram() }
    }

    pub(crate) fn add(&mut self, measured: &Measured) {
        self.calls += measured.timing.calls;
        self.span += measured.timing.span;
        self.cpu += measured.cpu;
        self.redis_cpu += measured.redis_cpu;
        self.microseconds.add(&measured.timing.microseconds).expect("the same bounds");
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

#[expect(clippy::cast_precision_loss, reason = "what is printed is rounded anyway")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

pub(crate) fn print(targets: &[Target], totals: &[[Totals; 3]]) {
    println!(
        "| Server, store | Call | Calls/s | p50 ms | p99 ms | Server µs/call | Redis µs/call | Of the bare server |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (target, steps) in targets.iter().zip(totals) {
        let yardstick = yardstick(target.place, targets, totals);
        for (index, (step, totals)) in Step::ALL.into_iter().zip(steps).enumerate() {
            let bare = yardstick.and_then(|bare| bare.get(index)).filter(|_| target.kind != Kind::Bare);
            let ratio = bare.map_or("–".to_owned(), |bare| format!("{:.2}", totals.per_second() / bare.per_second()));
            let redis_cpu = match target.place {
                Place::Embedded => "–".to_owned(),
                Place::RedisSocket | Place::RedisTcp => format!("{:.0}", totals.per_call(totals.redis_cpu)),
            };
            println!(
                "| {} | {} | {:.0} | {:.1} | {:.1} | {:.0} | {redis_cpu} | {ratio} |",
                target.name(),
                step.name(),
                totals.per_second(),
                totals.quantile(0.5),
                totals.quantile(0.99),
                totals.per_call(totals.cpu),
            );
        }
    }
}

/// The bare server on the same store; for the embedded store, which it cannot have, the one on the socket.
fn yardstick<'a>(place: Place, targets: &[Target], totals: &'a [[Totals; 3]]) -> Option<&'a [Totals; 3]> {
    let place = if place == Place::Embedded { Place::RedisSocket } else { place };
    let bare = |(target, _): &(&Target, &[Totals; 3])| target.kind == Kind::Bare && target.place == place;
    targets.iter().zip(totals).find(bare).map(|(_, totals)| totals)
}
