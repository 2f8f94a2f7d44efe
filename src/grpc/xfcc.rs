//! `x-forwarded-client-cert`, by which Envoy tells what certificate its client has shown.
//!
//! Elements are separated by commas, one for each proxy on the way; pairs of an element by semicolons. A key is in any case. A value
//! with a comma, a semicolon or an equals sign stands in double quotes, within which a backslash stands before a double quote, and in
//! the subjects of certificates (RFC 2253) before a backslash and other characters. Several header lines are one list. Envoy quotes
//! subjects only: a URI or DNS name with a comma or a semicolon, if an authority signs one, goes on as further pairs or elements.
//! <https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert>

/// What the last element says, for there the one proxy stands that is next to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ForwardedCertificate {
    /// The names of the proxy that wrote it.
    pub(super) by: Vec<String>,
    /// The URI names of the certificate.
    pub(super) uris: Vec<String>,
    /// The DNS names of the certificate.
    pub(super) dns: Vec<String>,
    /// A URI stands after a DNS name. Envoy writes them before: it is part of such a name.
    pub(super) has_uri_after_dns: bool,
}

/// The header breaks the grammar somewhere, or more than one element says that our sidecar wrote it, which writes one. Then nothing
/// of it is believed: where elements begin is a matter of quotes and names, and earlier elements may be an attacker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MalformedXfcc;

impl ForwardedCertificate {
    /// Of the values of all lines of the header, in their order. Which names are those of our sidecar, `is_ours` tells.
    pub(super) fn last_of(lines: &[&[u8]], is_ours: impl Fn(&String) -> bool) -> Result<Self, MalformedXfcc> {
        let mut last: Result<Self, MalformedXfcc> = Err(MalformedXfcc);
        for line in lines {
            let mut rest = *line;
            loop {
                let (element, after) = Self::parse(rest)?;
                if last.is_ok_and(|earlier| earlier.by.iter().any(&is_ours)) {
                    return Err(MalformedXfcc);
                }
                last = Ok(element);
                match after {
                    Some(after) => rest = after,
                    None => break,
                }
            }
        }
        last
    }

    /// The first element, and what follows its comma.
    fn parse(text: &[u8]) -> Result<(Self, Option<&[u8]>), MalformedXfcc> {
        let (mut element, mut rest) = (Self::default(), text.trim_ascii_start());
        loop {
            let (key, after) = split_at_byte(rest, b'=').ok_or(MalformedXfcc)?;
            if key.is_empty() || !key.iter().all(u8::is_ascii_alphanumeric) {
                return Err(MalformedXfcc);
            }
            let (value, after) = value(after)?;
            element.note(key, value)?;
            match after.split_first() {
                None => return Ok((element, None)),
                Some((b',', after)) => return Ok((element, Some(after))),
                Some((b';', after)) => rest = after,
                Some(_) => return Err(MalformedXfcc),
            }
        }
    }

    fn note(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), MalformedXfcc> {
        let names = match key.to_ascii_lowercase().as_slice() {
            b"by" => &mut self.by,
            b"uri" => {
                self.has_uri_after_dns |= !self.dns.is_empty();
                &mut self.uris
            }
            b"dns" => &mut self.dns,
            _ => return Ok(()),
        };
        names.push(String::from_utf8(value).map_err(|_| MalformedXfcc)?);
        Ok(())
    }
}

/// A value, and what follows it: nothing, or a separator.
fn value(text: &[u8]) -> Result<(Vec<u8>, &[u8]), MalformedXfcc> {
    if let Some((b'"', quoted)) = text.split_first() {
        return quoted_value(quoted);
    }
    let end = text.iter().position(|byte| matches!(byte, b',' | b';')).unwrap_or(text.len());
    let (value, rest) = text.split_at_checked(end).ok_or(MalformedXfcc)?;
    let value = value.trim_ascii_end();
    // A quote within is what a value looks like that was quoted in another way, and ends elsewhere.
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if value.iter().all(is_plain) { Ok((value.to_vec(), rest)) } else { Err(MalformedXfcc) }
}

/// A value after its opening quote. A closing quote is followed by a separator or nothing.
fn quoted_value(text: &[u8]) -> Result<(Vec<u8>, &[u8]), MalformedXfcc> {
    let (mut value, mut rest) = (Vec::new(), text);
    loop {
        match rest {
            [b'"', after @ ..] => return Ok((value, after.trim_ascii_start())),
            [b'\\', escaped, after @ ..] => {
                value.push(*escaped);
                rest = after;
            }
            [byte, after @ ..] => {
                value.push(*byte);
                rest = after;
            }
            [] => return Err(MalformedXfcc),
        }
    }
}

fn split_at_byte(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    let (before, after) = text.split_at_checked(at)?;
    after.split_first().map(|(_, after)| (before, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str]);

    #[test]
    fn the_last_element_counts_and_what_is_malformed_counts_nothing() {
        let ours: Found = (&["spiffe://td/otpd"], &["spiffe://td/shop"], &[]);
        let table: &[(&[&str], Option<Found>)] = &[
            (&["By=spiffe://td/otpd;Hash=4687;URI=spiffe://td/shop"], Some(ours)),
            (&["by=spiffe://td/otpd;HASH=4687;uRi=spiffe://td/shop"], Some(ours)),
            (&["By=spiffe://td/otpd;Hash=4687;Subject=\"\";URI=spiffe://td/shop"], Some(ours)),
            (&["By=\"spiffe://td/otpd\";URI=\"spiffe://td/shop\""], Some(ours)),
            (&["By=spiffe://td/otpd;Hash=;Subject=\"CN=a,O=b;c=d\";URI=spiffe://td/shop"], Some(ours)),
            (&["By=spiffe://td/otpd;Subject=\"CN=say \\\"hi\\\"\";URI=spiffe://td/shop"], Some(ours)),
            (&["By=spiffe://td/otpd;Subject=\"CN=a\\\\\";URI=spiffe://td/shop"], Some(ours)),
            (&["By=x;URI=spiffe://td/root,By=spiffe://td/otpd;URI=spiffe://td/shop"], Some(ours)),
            (&["By=x;URI=spiffe://td/root , By=spiffe://td/otpd ;URI=spiffe://td/shop "], Some(ours)),
            (&["By=x;URI=spiffe://td/root", "By=spiffe://td/otpd;URI=spiffe://td/shop"], Some(ours)),
            (&["By=a;By=b;URI=c;URI=d;DNS=e;DNS=f"], Some((&["a", "b"], &["c", "d"], &["e", "f"]))),
            (&["Hash=4687"], Some((&[], &[], &[]))),
            (&["By=;URI=;DNS="], Some((&[""], &[""], &[""]))),
            // An equals sign is no end of a value, as in the Cert of Envoy.
            (&["By=a;URI=b=c"], Some((&["a"], &["b=c"], &[]))),
            (&[], None),
            (&[""], None),
            (&["By"], None),
            (&["=a"], None),
            (&["By=a;"], None),
            (&["By=a;;URI=b"], None),
            (&["By=a,"], None),
            (&["By=a", ""], None),
            (&[",By=a"], None),
            (&["By=a,,By=b"], None),
            (&["By=\"a"], None),
            (&["By=\"a\\\""], None),
            (&["By=\"a\"b"], None),
            (&["By=a\"b\""], None),
            (&["By=a\\"], None),
            (&["By=a b"], None),
            (&["B y=a"], None),
            // What an earlier element opens does not swallow what our sidecar wrote.
            (&["Subject=\"", "By=spiffe://td/otpd;URI=spiffe://td/shop"], None),
            (&["Subject=\",By=spiffe://td/otpd;Subject=\"CN=,By=spiffe://td/otpd;URI=spiffe://td/root\""], None),
            // Subjects that try to end their quotes.
            (&["By=a;Subject=\"CN=x\\\\\";URI=spiffe://td/root\";URI=b"], None),
            (&["By=a;Subject=\"CN=x\\\";URI=spiffe://td/root;X=\\\"\";URI=b"], Some((&["a"], &["b"], &[]))),
        ];
        for (lines, expected) in table {
            let bytes: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            let found = ForwardedCertificate::last_of(&bytes, |_| false);
            let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
            let expected = expected.map(|(by, uris, dns)| ForwardedCertificate {
                by: owned(by),
                uris: owned(uris),
                dns: owned(dns),
                has_uri_after_dns: false,
            });
            assert_eq!(found.ok(), expected, "{lines:?}");
        }
        let last = |line: &[u8]| ForwardedCertificate::last_of(&[line], |by| by == "ours");
        assert_eq!(last(b"URI=\"\xff\""), Err(MalformedXfcc));
        assert!(last(b"By=a;Subject=\"\xc3\xa9\";URI=b").is_ok());
        assert!(last(b"By=a;DNS=b;URI=c").is_ok_and(|found| found.has_uri_after_dns));
        for (line, is_good) in [
            (&b"By=a,By=ours;URI=b"[..], true),
            (b"By=ours;URI=a,By=ours;URI=b", false),
            (b"By=ours,By=b", false),
            (b"By=ours,Hash=1,By=ours;URI=b", false),
        ] {
            assert_eq!(last(line).is_ok(), is_good, "{}", String::from_utf8_lossy(line));
        }
    }

    /// Whatever an earlier element holds, it never adds a name to the last one.
    #[test]
    fn nothing_before_the_last_element_is_part_of_it() {
        let last: &[u8] = b"By=a;Subject=\"CN=b\";URI=c";
        let alphabet = b"\",;=\\B a";
        let mut before = [0_usize; 6];
        loop {
            let text: Vec<u8> = before.iter().map(|index| alphabet[*index]).collect();
            let whole = [text.as_slice(), b",", last].concat();
            for lines in [vec![text.as_slice(), last], vec![whole.as_slice()]] {
                if let Ok(found) = ForwardedCertificate::last_of(&lines, |_| false) {
                    assert_eq!((found.by, found.uris), (vec!["a".to_owned()], vec!["c".to_owned()]), "{lines:?}");
                }
            }
            let Some(at) = before.iter().rposition(|index| *index + 1 < alphabet.len()) else { break };
            before[at] += 1;
            before[at + 1..].fill(0);
        }
    }
}
