//! A provider for tests of the executor: the smallest adapter, and calls that hold secrets.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::Method;
use otpd::{
    domain::{code::CodeOwner, destination::Channel, time::Timestamp},
    ports::{
        clock::{Clock, Deadline},
        provider::{
            Capabilities, Check, Checked, Delivered, Delivery, Evidence, Failure, Provider, Receipt, RequestError,
        },
    },
    providers::{
        adapter::{Adapter, checked_by_status, delivered_by_status},
        http::{BaseUrl, HttpProvider, HttpSettings, Inbound, Outbound},
    },
    secret::Secret,
    settings::{Diagnostics, Section, tree::Table},
};
use serde_json::json;

use super::scenario::Given;

/// What every call of the probe holds and no log may show.
pub(crate) const SECRETS: [&str; 5] = ["918273", "4155550100", "parameter-secret", "token-secret", "answer-secret"];

/// Longer than any call of these tests may take.
pub(crate) const LONGEST_CALL: Duration = Duration::from_secs(10);

/// A success, with a reference that tells answers apart.
pub(crate) fn success(reference: &str) -> Vec<u8> {
    answer(200, reference)
}

pub(crate) fn answer(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Probe\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A clock that stands still until it is moved.
#[derive(Default)]
pub(crate) struct ManualClock {
    passed_ms: AtomicU64,
    set_back_ms: AtomicU64,
}

impl ManualClock {
    pub(crate) fn pass(&self, span: Duration) {
        self.passed_ms.fetch_add(u64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Sets the time of day back; the monotonic clock does not notice.
    pub(crate) fn set_back(&self, span: Duration) {
        self.set_back_ms.fetch_add(u64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let passed = self.passed_ms.load(Ordering::SeqCst);
        Timestamp::from_millis(1_700_000_000_000 + passed - self.set_back_ms.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.passed_ms.load(Ordering::SeqCst))
    }
}

/// Sends the code and the parameters in every place that a request has. The body of a success is its reference.
struct Adaptation {
    base_url: BaseUrl,
    method: Method,
    bare: bool,
}

impl Adaptation {
    fn request(&self, code: &str, parameter: &str) -> Outbound {
        let outbound = Outbound::new(self.method.clone(), self.base_url.join("/send"))
            .query(&[("code", code), ("p", parameter)])
            .bearer(&Secret::new("token-secret".to_owned()))
            .header("x-parameter", parameter);
        if self.bare { outbound } else { outbound.json(&json!({"code": code, "parameter": parameter})) }
    }
}

impl Adapter for Adaptation {
    fn base_url(&self) -> &BaseUrl {
        &self.base_url
    }

    fn capabilities(&self) -> Capabilities {
        let code_owner = CodeOwner::Provider { check_repeatable: true };
        Capabilities { code_owner, ..Capabilities::delivers(vec![Channel::Sms]) }
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        let code = &delivery.message.as_ref().ok_or(RequestError::MissingParameter("code"))?.code;
        let parameter = delivery.context.parameters.get("p").ok_or(RequestError::MissingParameter("p"))?;
        Ok(self.request(code.expose(), parameter.expose()))
    }

    fn delivered(&self, _: &Delivery, answer: &Inbound) -> Delivered {
        if answer.is_success() {
            let reference = String::from_utf8_lossy(&answer.body).into_owned();
            Delivered::Accepted(Receipt { reference, ..Receipt::default() })
        } else {
            delivered_by_status(answer)
        }
    }

    fn check(&self, check: &Check) -> Result<Outbound, RequestError> {
        Ok(self.request(check.otp.expose(), "parameter-secret"))
    }

    fn checked(&self, _: &Check, answer: &Inbound) -> Checked {
        if answer.is_success() { Checked::Matched(Evidence::default()) } else { checked_by_status(answer) }
    }
}

/// A provider under test.
#[derive(Clone)]
pub(crate) struct Probe {
    pub(crate) provider: Arc<HttpProvider>,
    pub(crate) clock: Arc<ManualClock>,
}

impl Probe {
    /// POSTs with a body to this URL, with settings in TOML.
    pub(crate) fn new(url: &str, settings: &str) -> Self {
        Self::with(url, settings, Method::POST, false)
    }

    /// Sends requests without a body.
    pub(crate) fn bare(url: &str, settings: &str, method: Method) -> Self {
        Self::with(url, settings, method, true)
    }

    fn with(url: &str, settings: &str, method: Method, bare: bool) -> Self {
        let clock = Arc::new(ManualClock::default());
        let adapter = Box::new(Adaptation { base_url: BaseUrl::parse(url).unwrap(), method, bare });
        let provider = HttpProvider::new("probe", adapter, &http_settings(settings), clock.clone());
        Self { provider: Arc::new(provider.unwrap()), clock }
    }

    /// Whether a provider can be built.
    pub(crate) fn try_new(url: &str, settings: &HttpSettings) -> io::Result<()> {
        let adapter =
            Box::new(Adaptation { base_url: BaseUrl::parse(url).unwrap(), method: Method::POST, bare: false });
        HttpProvider::new("probe", adapter, settings, Arc::new(ManualClock::default())).map(drop)
    }

    pub(crate) async fn deliver(&self) -> Delivered {
        self.deliver_within(LONGEST_CALL).await
    }

    pub(crate) async fn deliver_within(&self, span: Duration) -> Delivered {
        self.provider.deliver(delivery("parameter-secret"), Deadline::after(span)).await
    }

    pub(crate) async fn check(&self) -> Checked {
        self.provider.check(given("").check().unwrap(), Deadline::after(LONGEST_CALL)).await
    }
}

/// Settings as a provider's section gives them.
pub(crate) fn http_settings(text: &str) -> HttpSettings {
    let diagnostics = Diagnostics::default();
    let table = Table::from_toml(text.parse().unwrap());
    let settings = Section::root(table, &diagnostics, HttpSettings::read);
    diagnostics.finish(settings).unwrap()
}

pub(crate) fn delivery(parameter: &str) -> Delivery {
    given(parameter).delivery().unwrap()
}

fn given(parameter: &str) -> Given {
    let given = json!({
        "channel": "sms", "destination": {"phone": "+14155550100"}, "code": "918273", "otp": "918273",
        "parameters": {"p": parameter}
    });
    serde_json::from_value(given).unwrap()
}

pub(crate) fn accepted(reference: &str) -> Delivered {
    Delivered::Accepted(Receipt { reference: reference.to_owned(), ..Receipt::default() })
}

const UNAVAILABLE: Failure = Failure::Unavailable { retry_after: None };

/// Certainly not sent, and waiting may help.
pub(crate) const FAILED: Delivered = Delivered::Failed(UNAVAILABLE);

/// Certainly not sent, and waiting cannot help.
pub(crate) const REFUSED: Delivered = Delivered::Failed(Failure::Refused);

/// Certainly not judged, and waiting may help.
pub(crate) const UNASKED: Checked = Checked::Failed(UNAVAILABLE);
