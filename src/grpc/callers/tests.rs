//! Who is known by what, and by what not.

use super::*;

/// Names and values.
type Lines<'a> = &'a [(&'static str, &'a str)];

const SHOP: &str = "spiffe://td/shop";
const OTPD: &str = "spiffe://td/otpd";

fn listed(name: &str, identities: &[&str]) -> ListedCaller {
    let identities = identities.iter().map(|text| Identity::parse(text).unwrap()).collect();
    ListedCaller { name: CallerName::parse(name).unwrap(), identities, rights: CallerRights::default() }
}

fn token(token: &str) -> Identity {
    Identity::Token(TokenHash::of(token.as_bytes()))
}

fn directory(sidecar: SidecarTrust) -> CallerDirectory {
    let mut shop = listed("shop", &[SHOP, "dns:shop.example", "dns:shop.web.serviceaccount.identity.linkerd.local"]);
    shop.identities.push(token("shop-token"));
    // The configuration refuses this one.
    shop.identities.push(token(""));
    let mut bank = listed("bank", &["spiffe://td/bank", "dns:bank.example"]);
    bank.identities.extend([token("bank-token"), token("bank-token-2")]);
    CallerDirectory::new(&[shop, bank], sidecar, true)
}

fn sidecar() -> SidecarTrust {
    SidecarTrust { xfcc_by: [Identity::spiffe(OTPD).unwrap()].into(), l5d_client_id: true }
}

fn headers(lines: Lines) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// The name of whoever calls.
fn known(directory: &CallerDirectory, peer: &PeerIdentity, lines: Lines) -> Option<String> {
    let caller = directory.of_call(peer, &headers(lines))?;
    Some(caller.name.as_ref().map_or("everybody", CallerName::as_str).to_owned())
}

#[test]
fn a_token_is_one_header_of_the_right_scheme() {
    let directory = directory(sidecar());
    let too_long = format!("Bearer {}", "a".repeat(MAX_TOKEN + 1));
    let table: &[(Lines, Option<&str>)] = &[
        (&[("authorization", "Bearer shop-token")], Some("shop")),
        (&[("authorization", "bearer shop-token")], Some("shop")),
        (&[("authorization", "BEARER  bank-token-2")], Some("bank")),
        (&[], None),
        (&[("authorization", "")], None),
        (&[("authorization", "Bearer")], None),
        (&[("authorization", "Bearer ")], None),
        (&[("authorization", "Bearer   ")], None),
        (&[("authorization", "Bearershop-token")], None),
        (&[("authorization", "Bearer\tshop-token")], None),
        (&[("authorization", "shop-token")], None),
        (&[("authorization", "Basic shop-token")], None),
        (&[("authorization", "Bearer shop-toke")], None),
        (&[("authorization", "Bearer shop-token2")], None),
        (&[("authorization", "Bearer Shop-Token")], None),
        (&[("authorization", "Bearer shop-token bank-token")], None),
        (&[("authorization", "Bearer shop-token, Bearer bank-token")], None),
        (&[("authorization", "Bearer sh\u{f6}p-token")], None),
        (&[("authorization", &too_long)], None),
        (&[("authorization", "Bearer shop-token"), ("authorization", "Bearer shop-token")], None),
        (&[("authorization", "Bearer shop-token"), ("authorization", "Basic x")], None),
        (&[("x-authorization", "Bearer shop-token")], None),
    ];
    for (lines, expected) in table {
        let found = known(&directory, &PeerIdentity::default(), lines);
        assert_eq!(found.as_deref(), *expected, "{lines:?}");
    }
}

#[test]
fn a_certificate_is_known_by_its_one_uri_or_else_by_its_dns_names() {
    let directory = directory(sidecar());
    let table: &[(&[&str], &[&str], Option<&str>)] = &[
        (&[SHOP], &[], Some("shop")),
        (&[SHOP], &["bank.example"], Some("shop")),
        (&[], &["shop.example"], Some("shop")),
        (&[], &["SHOP.Example"], Some("shop")),
        (&[], &["other.example", "shop.example"], Some("shop")),
        (&[], &["shop.example", "shop.example"], Some("shop")),
        (&[], &[], None),
        (&[], &["shop.example", "bank.example"], None),
        (&[], &["other.example"], None),
        (&[], &["*.example"], None),
        (&[], &["shop.example."], None),
        (&["spiffe://td/other"], &["shop.example"], None),
        (&["https://td/shop"], &["shop.example"], None),
        (&[SHOP, "spiffe://td/other"], &[], None),
        (&[SHOP, SHOP], &[], None),
        (&["spiffe://td/shop/x"], &[], None),
        (&["spiffe://td/SHOP"], &[], None),
    ];
    for (uris, dns, expected) in table {
        let certificate = directory.of_certificate(uris.iter().copied(), dns.iter().copied());
        let peer = PeerIdentity { is_local: false, certificate };
        assert_eq!(known(&directory, &peer, &[]).as_deref(), *expected, "{uris:?} {dns:?}");
    }
}

#[test]
fn headers_of_a_sidecar_are_believed_where_they_are_configured_and_come_from_this_machine() {
    const XFCC: &str = "x-forwarded-client-cert";
    const L5D: &str = "l5d-client-id";
    let shop = "By=spiffe://td/otpd;Hash=1;Subject=\"\";URI=spiffe://td/shop";
    let linkerd = "shop.web.serviceaccount.identity.linkerd.local";
    let both = "By=spiffe://td/edge;URI=spiffe://td/bank,By=spiffe://td/otpd;URI=spiffe://td/shop";
    let of_dns = "By=spiffe://td/otpd;DNS=shop.example;DNS=www.shop.example";
    // What Envoy makes of names that hold separators.
    let forged_element = "By=spiffe://td/otpd;Hash=1;URI=x,By=spiffe://td/otpd;URI=spiffe://td/bank";
    let forged_dns_element = "By=spiffe://td/otpd;URI=;DNS=a,By=spiffe://td/otpd;URI=spiffe://td/bank";
    let forged_uri = "By=spiffe://td/otpd;DNS=a;URI=spiffe://td/bank";
    let table: &[(Lines, Option<&str>)] = &[
        (&[(XFCC, shop)], Some("shop")),
        (&[(XFCC, both)], Some("shop")),
        (&[(XFCC, "By=x;URI=spiffe://td/bank"), (XFCC, shop)], Some("shop")),
        (&[(XFCC, of_dns)], Some("shop")),
        (&[(XFCC, "By=spiffe://td/otpd;URI=;DNS=shop.example")], Some("shop")),
        (&[(XFCC, "By=spiffe://td/otpd;URI=spiffe://td/shop;DNS=bank.example")], Some("shop")),
        (&[(XFCC, "By=x;DNS=a;URI=b"), (XFCC, shop)], Some("shop")),
        (&[(XFCC, forged_element)], None),
        (&[(XFCC, forged_dns_element)], None),
        (&[(XFCC, forged_uri)], None),
        (&[(XFCC, shop), (XFCC, shop)], None),
        (&[(XFCC, "By=x;By=spiffe://td/otpd;URI=a"), (XFCC, shop)], None),
        (&[(XFCC, "By=spiffe://td/otpd;URI=;DNS=a;URI=spiffe://td/bank")], None),
        (&[(XFCC, "By=spiffe://td/otpd;URI=;URI=;DNS=shop.example")], None),
        (&[(XFCC, "By=spiffe://td/otpd;URI=;URI=spiffe://td/shop")], None),
        (&[(XFCC, "By=spiffe://td/otpd;DNS=shop.example;URI=")], None),
        (&[(XFCC, "By=spiffe://td/otpd;URI=")], None),
        (&[(L5D, linkerd)], Some("shop")),
        (&[(L5D, SHOP)], Some("shop")),
        (&[(XFCC, shop), (L5D, linkerd)], Some("shop")),
        (&[(XFCC, shop), ("authorization", "Bearer shop-token")], Some("shop")),
        (&[(XFCC, shop), (XFCC, "By=x;URI=spiffe://td/bank")], None),
        (&[(XFCC, "URI=spiffe://td/shop")], None),
        (&[(XFCC, "By=spiffe://td/other;URI=spiffe://td/shop")], None),
        (&[(XFCC, "By=spiffe://td/otpd;By=spiffe://td/other;URI=spiffe://td/shop")], None),
        (&[(XFCC, "By=spiffe://td/otpd;URI=spiffe://td/shop;URI=spiffe://td/bank")], None),
        (&[(XFCC, "By=spiffe://td/otpd;URI=spiffe://td/other;DNS=shop.example")], None),
        (&[(XFCC, "By=spiffe://td/otpd")], None),
        (&[(XFCC, "")], None),
        // Nothing falls back to something weaker.
        (&[(XFCC, "By=spiffe://td/otpd;URI=spiffe://td/other"), ("authorization", "Bearer shop-token")], None),
        (&[(XFCC, shop), ("authorization", "Bearer bank-token")], None),
        (&[(XFCC, shop), ("authorization", "Basic x")], None),
        (&[(XFCC, shop), (L5D, "bank.example")], None),
        (&[(L5D, linkerd), (L5D, linkerd)], None),
        (&[(L5D, "")], None),
        (&[(L5D, "other.example")], None),
    ];
    let here = PeerIdentity { is_local: true, certificate: ShownIdentity::Nothing };
    let (trusting, wary) = (directory(sidecar()), directory(SidecarTrust::default()));
    for (lines, expected) in table {
        assert_eq!(known(&trusting, &here, lines).as_deref(), *expected, "{lines:?}");
        // Otherwise they are not there.
        let rest: Vec<_> = lines.iter().copied().filter(|(name, _)| ![XFCC, L5D].contains(name)).collect();
        let without = known(&wary, &here, &rest);
        assert_eq!(known(&wary, &here, lines), without, "{lines:?}");
        assert_eq!(known(&trusting, &PeerIdentity::default(), lines), without, "{lines:?}");
    }
}

#[test]
fn all_that_is_shown_is_of_one_caller() {
    let directory = directory(SidecarTrust::default());
    let of = |uri| directory.of_certificate([uri].into_iter(), [].into_iter());
    let (shop, bank) = ([("authorization", "Bearer shop-token")], [("authorization", "Bearer bank-token")]);
    let wrong = [("authorization", "Bearer other")];
    let table: &[(ShownIdentity, Lines, Option<&str>)] = &[
        (of(SHOP), &[], Some("shop")),
        (of(SHOP), &shop, Some("shop")),
        (of(SHOP), &bank, None),
        (of(SHOP), &wrong, None),
        (of("spiffe://td/other"), &shop, None),
        (of("spiffe://td/other"), &[], None),
    ];
    for (certificate, lines, expected) in table {
        let peer = PeerIdentity { is_local: false, certificate: certificate.clone() };
        assert_eq!(known(&directory, &peer, lines).as_deref(), *expected, "{certificate:?} {lines:?}");
    }
}

#[test]
fn without_callers_everybody_is_known_or_everybody_with_a_certificate() {
    let (open, certified) = (CallerDirectory::new(&[], sidecar(), false), CallerDirectory::new(&[], sidecar(), true));
    let nobody = PeerIdentity::default();
    let certificate = certified.of_certificate(["spiffe://td/other"].into_iter(), [].into_iter());
    let somebody = PeerIdentity { is_local: false, certificate };
    let wrong = [("authorization", "Bearer wrong")];
    // Over a Unix socket no certificate can be shown.
    let over_socket = |directory: &CallerDirectory| {
        let peer = PeerIdentity { is_local: true, certificate: directory.of_socket() };
        (known(directory, &peer, &[]), known(directory, &peer, &[("authorization", "Bearer shop-token")]))
    };
    let everybody = Some("everybody".to_owned());
    assert_eq!(over_socket(&open), (everybody.clone(), everybody.clone()));
    assert_eq!(over_socket(&certified), (everybody.clone(), everybody));
    assert_eq!(over_socket(&directory(sidecar())), (None, Some("shop".to_owned())));
    assert_eq!(known(&open, &nobody, &wrong).as_deref(), Some("everybody"));
    assert_eq!(known(&certified, &nobody, &[]), None);
    assert_eq!(known(&certified, &somebody, &wrong).as_deref(), Some("everybody"));
    assert!(KnownCaller::everybody().rights.admin);
}
