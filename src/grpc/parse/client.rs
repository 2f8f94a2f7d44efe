//! What the caller says of the person's language and device.

use std::net::IpAddr;

use super::{Violations, values::fits};
use crate::{domain::locale, grpc::proto, ports::provider::ClientContext};

const MAX_USER_AGENT: usize = 512;
const MAX_DEVICE_ID: usize = 100;
const MAX_LAT_LONG: usize = 100;

/// A language tag, or nothing.
pub(super) fn language(faults: &mut Violations, tag: String) -> String {
    let fits = tag.is_empty() || (tag.len() <= locale::MAX_LENGTH && locale::is_tag(&tag));
    if !fits {
        faults.invalid("locale", "must be a BCP 47 tag of at most 35 characters, such as pt-BR");
    }
    tag
}

/// The person's device.
pub(super) fn context(faults: &mut Violations, context: Option<proto::ClientContext>) -> ClientContext {
    let proto::ClientContext { ip_address, user_agent, device_id, lat_long } = context.unwrap_or_default();
    if !ip_address.is_empty() && ip_address.parse::<IpAddr>().is_err() {
        faults.invalid("client_context.ip_address", "must be an IPv4 or IPv6 address");
    }
    if !fits(&user_agent, MAX_USER_AGENT) {
        faults.invalid("client_context.user_agent", "must be at most 512 characters");
    }
    if !fits(&device_id, MAX_DEVICE_ID) {
        faults.invalid("client_context.device_id", "must be at most 100 characters");
    }
    let on_earth = lat_long.is_empty() || (lat_long.len() <= MAX_LAT_LONG && is_lat_long(&lat_long));
    if !on_earth {
        faults.invalid("client_context.lat_long", "must be latitude,longitude in decimal degrees");
    }
    ClientContext { ip_address, user_agent, device_id, lat_long }
}

fn is_lat_long(text: &str) -> bool {
    text.split_once(',')
        .is_some_and(|(latitude, longitude)| is_degrees(latitude, 90.0) && is_degrees(longitude.trim_start(), 180.0))
}

fn is_degrees(text: &str, max: f64) -> bool {
    // Rust also reads `1e1`, `inf` and `NaN` as numbers.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.'));
    plain && text.parse::<f64>().is_ok_and(|degrees| degrees.abs() <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_decimal_degrees() {
        for good in ["12.97,77.59", "-90,180", "0,0", "+12.5, -0.1", "90.0,-180.0"] {
            assert!(is_lat_long(good), "{good}");
        }
        for bad in ["", ",", "12.97", "12.97,", "91,0", "0,180.1", "inf,0", "NaN,0", "1e1,0", "1,2,3", "a,b", "--1,0"] {
            assert!(!is_lat_long(bad), "{bad}");
        }
    }
}
