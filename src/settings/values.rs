//! How texts become values. Error messages never quote the text, which may be a secret in the wrong place.

use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use crate::domain::quota::Window;

/// A span as an operator would write it, in the largest unit of which it is a whole number.
pub(crate) fn show(span: Duration) -> String {
    let millis = span.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let fits = |(_, length): &&(&str, u128)| millis >= *length && millis.is_multiple_of(*length);
    match units.iter().find(fits) {
        Some((unit, length)) => format!("{}{unit}", millis / length),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}

/// A span of time within bounds.
pub(crate) fn span(range: RangeInclusive<Duration>) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        let span = humantime::parse_duration(text.trim()).ok().filter(|span| range.contains(span));
        span.ok_or_else(|| {
            let (least, most) = (show(*range.start()), show(*range.end()));
            format!("must be a span of time with its unit, such as \"30s\", {least} to {most}")
        })
    }
}

/// An address to listen on.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| "must be an IP address and a port, such as 127.0.0.1:50051".to_owned())
}

/// A path.
pub(crate) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("must be a path".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// One of several words.
pub(crate) fn word<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let found = words.iter().find(|(word, _)| *word == text.trim());
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("must be {}", words.join(" or "))
        })
    }
}

/// A window: `5 per 1h`.
pub(crate) fn window(text: &str) -> Result<Window, String> {
    let wrong = || {
        let longest = show(Window::MAX_SPAN);
        format!("must be like \"5 per 1h\": 1 to {} per 1s to {longest}", Window::MAX_USES)
    };
    let (max, per) = text.split_once(" per ").ok_or_else(wrong)?;
    let max = max.trim().parse().ok().filter(|max| (1..=Window::MAX_USES).contains(max)).ok_or_else(wrong)?;
    let per = span(Duration::from_secs(1)..=Window::MAX_SPAN)(per).map_err(|_| wrong())?;
    Ok(Window { max, per })
}

/// Why the windows of one list contradict each other: a longer window that allows no more makes the shorter one useless.
pub(crate) fn conflicting_windows(windows: &[Window]) -> Option<String> {
    let mut sorted = windows.to_vec();
    sorted.sort_by_key(|window| (window.per, window.max));
    sorted.iter().zip(sorted.iter().skip(1)).find_map(|(short, long)| {
        let (short_per, long_per) = (show(short.per), show(long.per));
        let wrong = short.per == long.per || short.max >= long.max;
        wrong.then(|| {
            format!(
                "{} per {short_per} and {} per {long_per} do not fit: a longer span must allow more",
                short.max, long.max
            )
        })
    })
}
