//! `http-json`: any provider that accepts a code of otpd in one HTTP request, by configuration alone.
//!
//! Path, headers, body and the meaning of answers are settings. An answer that the settings say nothing about is judged by
//! its status, as for every other provider.

mod rules;
mod signature;
mod template;
#[cfg(test)]
mod tests;
mod variables;

use std::collections::BTreeSet;

use http::{HeaderName, Method, Uri};

use super::{
    adapter::{Adapter, settings},
    http::{Authority, BaseUrl, Inbound, OAuth2, Outbound},
};
use crate::{
    domain::{
        destination::{Channel, Destination},
        purpose::Purpose,
    },
    ports::provider::{Capabilities, Delivered, Delivery, RequestError},
    secret::Secret,
    settings::{Section, values},
};
use rules::Rules;
use signature::Signature;
use template::{Filled, Json, Placeholder, Template};
use variables::{Values, Variable};

const METHODS: [(&str, &str); 4] = [("POST", "POST"), ("PUT", "PUT"), ("PATCH", "PATCH"), ("GET", "GET")];

/// Headers that only otpd sets, because they frame the request or its answer.
const OURS: [&str; 7] =
    ["accept-encoding", "connection", "content-length", "content-type", "host", "te", "transfer-encoding"];

/// A provider that the operator describes.
#[derive(Clone)]
pub(super) struct HttpJson {
    base_url: BaseUrl,
    channels: Vec<Channel>,
    method: Method,
    path: Template,
    login: Option<(String, Secret<String>)>,
    oauth2: Option<OAuth2>,
    signature: Option<Signature>,
    headers: Vec<(String, Template)>,
    body: Body,
    variables: BTreeSet<Variable>,
    is_idempotent: bool,
    rules: Rules,
}

#[derive(Clone)]
enum Body {
    Empty,
    Json(Json),
    Form(Vec<(String, Template)>),
}

/// Reads the provider's settings.
pub(super) fn read(section: &mut Section<'_>) -> Option<HttpJson> {
    let base_url = BaseUrl::read(section, None);
    let channels = settings::channels(section, &Channel::ALL);
    let method = section.text("method", method).unwrap_or(Method::POST);
    let path = section.secret("path", path);
    if path.is_none() && !section.is_secret_wrong("path") {
        section.missing("path", "the path below base_url, such as /messages");
    }
    let user = section.optional_text("user", user);
    let password = section.optional_secret("password", |text| Ok(Secret::new(text.to_owned())));
    if user.is_some() != password.is_some() && !settings::is_wrong(section, "user") {
        section.cross_field_error("password", "goes with user: set both or none");
    }
    let oauth2 = OAuth2::read(section);
    let signature = Signature::read(section);
    if oauth2.is_some() && (user.is_some() || signature.is_some()) {
        section.cross_field_error("oauth2", "goes without user and hmac: a request is authorised in one way");
    }
    let headers = section.section("headers", |section| templates(section, header));
    let json = section.optional_secret("json", Json::parse);
    let form = section.section("form", |section| templates(section, |_, text| Template::parse(text)));
    if json.is_some() && !form.is_empty() {
        section.cross_field_error("json", "goes without form: a request has one body");
    }
    let mut rules = Rules::read(section);
    let is_idempotent = section.boolean("idempotent").unwrap_or(false);
    let body = match json {
        Some(json) => Body::Json(json),
        None if form.is_empty() => Body::Empty,
        None => Body::Form(form),
    };
    if method == Method::GET && !matches!(body, Body::Empty) {
        section.cross_field_error("method", "GET goes without json and form");
    }
    let (base_url, path) = (base_url?, path?);
    let mut variables: BTreeSet<Variable> = path.variables().collect();
    variables.extend(headers.iter().flat_map(|(_, template)| template.variables()));
    match &body {
        Body::Empty => {}
        Body::Json(json) => json.collect(&mut variables),
        Body::Form(pairs) => variables.extend(pairs.iter().flat_map(|(_, template)| template.variables())),
    }
    let of_numbers = [Variable::ToDigits, Variable::ToIndian].into_iter().find(|variable| variables.contains(variable));
    if let Some(variable) = of_numbers.filter(|_| channels.contains(&Channel::Email)) {
        let name = variable.name();
        section.cross_field_error("channels", format!("email goes without {{{{{name}}}}}, which a mailbox has not"));
    }
    let has_key = variables.contains(&Variable::IdempotencyKey);
    if is_idempotent && !has_key {
        section
            .cross_field_error("idempotent", "goes with {{idempotency_key}}, by which the provider knows a repetition");
    }
    rules.has_key = has_key;
    let login = user.zip(password);
    Some(HttpJson {
        base_url,
        channels,
        method,
        path,
        login,
        oauth2,
        signature,
        headers,
        body,
        variables,
        is_idempotent,
        rules,
    })
}

fn method(text: &str) -> Result<Method, String> {
    values::word(&METHODS)(text)?.parse().map_err(|_| "must be an HTTP method".to_owned())
}

/// A name for basic authorisation, which ends at the first colon (RFC 7617, 2).
fn user(text: &str) -> Result<String, String> {
    if text.contains(':') { Err("must be without a colon".to_owned()) } else { Ok(text.to_owned()) }
}

/// A path below `base_url`, a query included.
fn path(text: &str) -> Result<Template, String> {
    let template: Template = Template::parse(text)?;
    let sample = template.sample();
    let uri: Option<Uri> = format!("http://localhost{}", sample.expose()).parse().ok();
    let plain = text.starts_with('/') && !sample.expose().contains('#') && !climbs(sample.expose());
    if uri.is_some() && plain {
        Ok(template)
    } else {
        Err("must begin with a slash and be percent-encoded, without fragment, . and ..".to_owned())
    }
}

/// Whether a path has a segment that leads elsewhere: `.` or `..` (RFC 3986, 5.2.4).
fn climbs(path: &str) -> bool {
    let end = path.find('?').unwrap_or(path.len());
    path.get(..end).unwrap_or_default().split('/').any(|segment| matches!(segment, "." | ".."))
}

fn header<V: Placeholder>(name: &str, text: &str) -> Result<Template<V>, String> {
    let known = HeaderName::from_bytes(name.as_bytes()).is_ok();
    if !known || OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
        return Err("is no header that can be set".to_owned());
    }
    let template = Template::parse(text)?;
    if is_printable(template.sample().expose()) { Ok(template) } else { Err("must be printable ASCII".to_owned()) }
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// A section whose keys the operator chooses. Each may be a secret, so it may also stand in a file that `NAME_file` names. A key that
/// ends so is always the name of a file; what is itself called `x_file` is set by `x_file_file`.
fn templates<V: Placeholder>(
    section: &mut Section<'_>,
    parse: impl Fn(&str, &str) -> Result<Template<V>, String>,
) -> Vec<(String, Template<V>)> {
    let keys = section.names();
    let names: BTreeSet<&str> = keys.iter().map(|key| key.strip_suffix("_file").unwrap_or(key)).collect();
    let read = |name: &str| section.secret(name, |text| parse(name, text)).map(|template| (name.to_owned(), template));
    names.into_iter().filter_map(read).collect()
}

impl HttpJson {
    /// Adds the headers. A value that could end a header is refused, since headers have no escapes.
    fn with_headers(&self, request: Outbound, values: &Values) -> Result<Outbound, RequestError> {
        self.headers.iter().try_fold(request, |request, (name, template)| {
            match template.variables().find(|variable| !is_printable(values.get(*variable))) {
                Some(variable) => Err(RequestError::InvalidParameter(variable.name())),
                None => Ok(request.header(name, template.fill(values).expose())),
            }
        })
    }
}

impl Adapter for HttpJson {
    fn base_url(&self) -> &BaseUrl {
        &self.base_url
    }

    fn capabilities(&self) -> Capabilities {
        let of_transactions = [Variable::Amount, Variable::Currency, Variable::Payee];
        let is_for_transactions = of_transactions.iter().any(|variable| self.variables.contains(variable));
        let purposes = if is_for_transactions { vec![Purpose::Transaction] } else { Purpose::ALL.to_vec() };
        let send_repeatable = self.is_idempotent;
        Capabilities { purposes, send_repeatable, ..Capabilities::delivers(self.channels.clone()) }
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        let values = Values::of(&self.variables, delivery)?;
        let path = self.path.fill_encoded(&values);
        if climbs(path.expose()) {
            let climber = self.path.variables().find(|variable| values.get(*variable).starts_with('.'));
            return Err(RequestError::InvalidParameter(climber.map_or("path", Variable::name)));
        }
        let request = Outbound::new(self.method.clone(), self.base_url.join(path.expose()));
        let request = match &self.login {
            Some((user, password)) => request.basic(user, password),
            None => request,
        };
        let request = self.with_headers(request, &values)?;
        Ok(match &self.body {
            Body::Empty => request,
            Body::Json(json) => {
                json.check(&values)?;
                request.json(&Filled(json, &values))
            }
            Body::Form(pairs) => {
                let filled: Vec<_> = pairs.iter().map(|(name, value)| (name, value.fill(&values))).collect();
                let pairs: Vec<_> =
                    filled.iter().map(|(name, value)| (name.as_str(), value.expose().as_str())).collect();
                request.form(&pairs)
            }
        })
    }

    fn authority(&self) -> Option<Box<dyn Authority>> {
        let oauth2 = self.oauth2.clone().map(OAuth2::authority);
        oauth2.or_else(|| self.signature.clone().map(|signature| Box::new(signature) as Box<dyn Authority>))
    }

    fn delivered(&self, delivery: &Delivery, answer: &Inbound) -> Delivered {
        self.rules.judge(answer, &sent(delivery))
    }
}

/// What a request may hold of what people chose, as an answer may repeat it: as it is, inside JSON, and inside a form.
fn sent(delivery: &Delivery) -> Vec<Secret<String>> {
    let context = &delivery.context;
    let message = delivery.message.iter().flat_map(|message| [message.text.expose(), message.code.expose()]);
    let mut texts: Vec<&str> = message.map(String::as_str).collect();
    match &context.destination {
        Destination::Phone(number) => texts.push(number.expose()),
        Destination::Email(mailbox) => texts.push(mailbox.expose()),
        Destination::OnFile => {}
    }
    texts.extend(context.transaction.iter().flat_map(|it| [it.payee.as_str(), it.reference.as_str()]));
    texts.extend(context.parameters.values().map(|value| value.expose().as_str()));
    texts.extend([context.account.as_str(), context.challenge.as_str(), delivery.idempotency_key.as_str()]);
    let forms = texts.into_iter().flat_map(|text| {
        let json = serde_json::to_string(text).unwrap_or_default();
        let form: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        [text.to_owned(), json.trim_matches('"').to_owned(), form.replace('+', "%20"), form]
    });
    let mut sent: Vec<Secret<String>> = forms.map(Secret::new).collect();
    // The longest first: a part of another must not leave the rest of it behind.
    sent.sort_by_key(|text| std::cmp::Reverse(text.expose().len()));
    sent
}
