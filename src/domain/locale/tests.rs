//! Tests of `domain::locale`.

use super::*;

#[test]
fn tags_have_the_syntax_of_rfc_5646() {
    for good in [
        "en",
        "pt-BR",
        "zh-Hant-TW",
        "es-419",
        "de-CH-1996",
        "sl-rozaj-biske",
        "zh-cmn-Hans-CN",
        "en-u-ca-gregory",
        "de-DE-u-co-phonebk",
        "x-house",
        "en-x-us",
        "EN-us",
        "haw",
        "hy-Latn-IT-arevela",
        "i-klingon",
        "zh-min-nan",
    ] {
        assert!(is_tag(good), "{good}");
    }
    for bad in [
        "",
        "e",
        "en_US",
        "en-",
        "-en",
        "en--US",
        "en-US-",
        "123",
        "en-u",
        "en-x",
        "x",
        "en US",
        "é",
        "englishlanguage",
        "en-US-GB",
        "en-abcdefghi",
        "de.UTF-8",
        "en-x-u_s",
    ] {
        assert!(!is_tag(bad), "{bad}");
    }
}

/// Goal: a reader gets the text that suits best. Method: readers, the texts that there are, and the right one.
#[test]
fn the_nearest_text_is_found() {
    const CHINESE: &str = "zh zh-Hant";
    const TWILIO: &str = "en en-GB es he id nb pt pt-BR tl zh zh-CN zh-HK";
    const VONAGE: &str =
        "ar-xa en-us en-au en-gb en-in es-es es-mx es-us fr-fr fr-ca nb-no pt-br pt-pt zh-cn zh-hk zh-tw";
    for (reader, offered, expected) in [
        ("zh-TW", CHINESE, "zh-Hant"),
        ("zh-HK", CHINESE, "zh-Hant"),
        ("zh-MO", CHINESE, "zh-Hant"),
        ("zh-Hant-SG", CHINESE, "zh-Hant"),
        ("yue", CHINESE, "zh-Hant"),
        ("zh-min-nan", CHINESE, "zh-Hant"),
        ("zh", CHINESE, "zh"),
        ("zh-CN", CHINESE, "zh"),
        ("zh-SG", CHINESE, "zh"),
        ("zh-Hans-HK", CHINESE, "zh"),
        ("zh-cmn-Hans", CHINESE, "zh"),
        ("zh-TW", "en zh", "zh"),
        ("zh-CN", "en zh-Hant", ""),
        ("zh-MO", "zh-TW zh-HK zh", "zh-HK"),
        ("sr-Latn", "sr sr-Latn", "sr-Latn"),
        ("sr-ME", "sr sr-Latn", "sr-Latn"),
        ("sh", "sr sr-Latn", "sr-Latn"),
        ("sr-YU", "sr-Latn sr", "sr"),
        ("sr", "hr sr-Latn", "sr-Latn"),
        ("pa-PK", "en pa", ""),
        ("pa-PK", "pa pa-Arab", "pa-Arab"),
        ("uz-Cyrl-UZ", "uz", ""),
        ("es-AR", "es es-419", "es-419"),
        ("es-AR", "es-ES es-MX", "es-MX"),
        ("es-GQ", "es-MX es-ES", "es-ES"),
        ("pt-AO", "pt-BR pt-PT", "pt-PT"),
        ("pt-AO", "pt pt-PT", "pt-PT"),
        ("pt-PT", "pt-BR", "pt-BR"),
        ("fr-CA", "fr-fr", "fr-fr"),
        ("fr-CH", "fr-ca fr-fr", "fr-fr"),
        ("en-NZ", "en-us en-gb", "en-gb"),
        ("hi-Latn", "hi en", "en"),
        ("en", "hi-Latn", ""),
        ("nn", "nb no", "no"),
        ("no", "nn nb", "nb"),
        ("nb", "da nn", "nn"),
        ("EN-us", "fr EN", "EN"),
        ("de-CH-1996", "de-AT de", "de"),
        ("de-DE-u-co-phonebk", "de", "de"),
        ("ro-MD", "ro", "ro"),
        ("mo", "ro", "ro"),
        ("xx", "en", ""),
        ("x-house", "en", ""),
        ("und", "en", ""),
        ("i-default", "en", ""),
        ("", "en", ""),
        ("en_US", "en", ""),
        ("zh-Hant-HK", TWILIO, "zh-HK"),
        ("zh-HK", TWILIO, "zh-HK"),
        ("zh-TW", TWILIO, "zh-HK"),
        ("zh-Hans-HK", TWILIO, "zh"),
        ("zh-CN", TWILIO, "zh-CN"),
        ("zh-SG", TWILIO, "zh"),
        ("iw", TWILIO, "he"),
        ("in-ID", TWILIO, "id"),
        ("no", TWILIO, "nb"),
        ("nn-NO", TWILIO, "nb"),
        ("no-bok", TWILIO, "nb"),
        ("fil-PH", TWILIO, "tl"),
        ("en-AU", TWILIO, "en"),
        ("en-GB", TWILIO, "en-GB"),
        ("pt-BR", TWILIO, "pt-BR"),
        ("pt-MZ", TWILIO, "pt"),
        ("es-AR", TWILIO, "es"),
        ("zh", VONAGE, "zh-cn"),
        ("zh-Hant", VONAGE, "zh-tw"),
        ("zh-Hant-HK", VONAGE, "zh-hk"),
        ("es", VONAGE, "es-es"),
        ("es-419", VONAGE, "es-mx"),
        ("es-CO", VONAGE, "es-mx"),
        ("en", VONAGE, "en-us"),
        ("en-NZ", VONAGE, "en-au"),
        ("ar-EG", VONAGE, "ar-xa"),
        ("fr-CA", VONAGE, "fr-ca"),
        ("fr-BE", VONAGE, "fr-fr"),
        ("no", VONAGE, "nb-no"),
        ("pt-AO", VONAGE, "pt-pt"),
        ("pt", VONAGE, "pt-br"),
    ] {
        let found = nearest_tag(offered.split(' '), reader).unwrap_or_default();
        assert_eq!(found, expected, "{reader} of {offered}");
    }
}

#[test]
fn grandfathered_tags_name_languages() {
    for (old, new) in GRANDFATHERED {
        assert!(is_tag(old) && is_tag(new), "{old}");
        assert_eq!(Language::parse(old), Language::parse(new), "{old}");
        assert!(Language::parse(old).is_some(), "{old}");
    }
}
