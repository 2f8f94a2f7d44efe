//! Phones that have two numbers: an old one and a new one, or one under each of two country codes.
//!
//! The library takes both numbers of each, and either may reach the phone. Sources: the national numbering plans at
//! itu.int/oth/T0202, by country and date. Only what is certain without knowing the operator stands here, and only while the
//! library takes the old number; it no longer takes those of Ivory Coast, Mexico (+52 1) and San Marino (without 0549).

/// A number that begins with `old` and has so many digits after it begins with `new` instead.
struct Renumbering {
    old: &'static str,
    rest: usize,
    new: &'static str,
}

const fn change(old: &'static str, rest: usize, new: &'static str) -> Renumbering {
    Renumbering { old, rest, new }
}

const RENUMBERINGS: &[Renumbering] = &[
    // Benin, November 2024: 01 before all numbers.
    change("+229", 8, "+22901"),
    // Gabon, October 2019: the 0 becomes 1, 6 or 7. The library also takes the old numbers without their 0.
    change("+24101", 6, "+24111"),
    change("+24102", 6, "+24162"),
    change("+24105", 6, "+24165"),
    change("+24106", 6, "+24166"),
    change("+24104", 6, "+24174"),
    change("+24107", 6, "+24177"),
    change("+2412", 6, "+24162"),
    change("+2415", 6, "+24165"),
    change("+2416", 6, "+24166"),
    change("+2414", 6, "+24174"),
    change("+2417", 6, "+24177"),
    // Viet Nam, September to November 2018: mobile numbers lose a digit.
    change("+84120", 7, "+8470"),
    change("+84121", 7, "+8479"),
    change("+84122", 7, "+8477"),
    change("+84123", 7, "+8483"),
    change("+84124", 7, "+8484"),
    change("+84125", 7, "+8485"),
    change("+84126", 7, "+8476"),
    change("+84127", 7, "+8481"),
    change("+84128", 7, "+8478"),
    change("+84129", 7, "+8482"),
    change("+84162", 7, "+8432"),
    change("+84163", 7, "+8433"),
    change("+84164", 7, "+8434"),
    change("+84165", 7, "+8435"),
    change("+84166", 7, "+8436"),
    change("+84167", 7, "+8437"),
    change("+84168", 7, "+8438"),
    change("+84169", 7, "+8439"),
    change("+84186", 7, "+8456"),
    change("+84188", 7, "+8458"),
    change("+84199", 7, "+8459"),
    // Colombia, September 2021: 60 before the numbers of fixed lines.
    change("+571", 7, "+57601"),
    change("+572", 7, "+57602"),
    change("+574", 7, "+57604"),
    change("+575", 7, "+57605"),
    change("+576", 7, "+57606"),
    change("+577", 7, "+57607"),
    change("+578", 7, "+57608"),
    // Cameroon, November 2014: 6 before mobile numbers, 2 before fixed lines.
    change("+2377", 7, "+23767"),
    change("+2379", 7, "+23769"),
    change("+23722", 6, "+237222"),
    change("+23733", 6, "+237233"),
    // Mauritius, September 2013: 5 before mobile numbers.
    change("+2307", 6, "+23057"),
    change("+2309", 6, "+23059"),
    // Ecuador, September 2012: 9 before mobile numbers.
    change("+5938", 7, "+59398"),
    change("+5939", 7, "+59399"),
    // Argentina: the 9 tells networks abroad that a phone is mobile. Its ten digits are nobody else's.
    change("+549", 10, "+54"),
    // Kosovo, 2017 and 2018: mobile numbers that had been under the codes of Monaco and Slovenia.
    change("+37744", 6, "+38344"),
    change("+37745", 6, "+38345"),
    change("+38643", 6, "+38343"),
    change("+38649", 6, "+38349"),
    // Kosovo, 2016 to 2018: fixed lines that had been under the code of Serbia.
    change("+38128", 6, "+38328"),
    change("+38129", 6, "+38329"),
    change("+38138", 6, "+38338"),
    change("+38139", 6, "+38339"),
    // Northern Ireland is reached from the Republic under an area code of its plan as well.
    change("+35348", 8, "+4428"),
    // Palestine: mobile numbers are reached under the code of Israel as well.
    change("+97256", 7, "+97056"),
    change("+97259", 7, "+97059"),
    // France: numbers overseas are in the national plan and have country codes of their own.
    change("+33639", 6, "+262639"),
    change("+33690", 6, "+590690"),
    change("+33691", 6, "+590691"),
    change("+33692", 6, "+262692"),
    change("+33693", 6, "+262693"),
    change("+33694", 6, "+594694"),
    change("+33696", 6, "+596696"),
    change("+33697", 6, "+596697"),
    change("+33590", 6, "+590590"),
    change("+33594", 6, "+594594"),
    change("+33596", 6, "+596596"),
    change("+33262", 6, "+262262"),
    change("+33269", 6, "+262269"),
    // San Marino is reached under the code of Italy as well.
    change("+390549", 6, "+3780549"),
];

/// The newest number of the phone that a number in E.164 names.
pub(super) fn current(number: &str) -> String {
    let fitting = |change: &&Renumbering| number.strip_prefix(change.old).is_some_and(|rest| rest.len() == change.rest);
    if let Some(Renumbering { old, new, .. }) = RENUMBERINGS.iter().find(fitting) {
        return format!("{new}{}", number.get(old.len()..).unwrap_or_default());
    }
    with_ninth_digit(number).unwrap_or_else(|| number.to_owned())
}

/// Brazil, 2012 to 2016: a 9 before mobile numbers, after the two digits of the area. Of those that began with 7 some were
/// trunked radio and kept eight digits.
fn with_ninth_digit(number: &str) -> Option<String> {
    let (area, subscriber) = number.strip_prefix("+55").filter(|rest| rest.len() == 10)?.split_at_checked(2)?;
    subscriber.starts_with(['6', '8', '9']).then(|| format!("+55{area}9{subscriber}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::destination::PhoneNumber;

    /// A number for a change: after the prefix, digits from 1 to 9.
    fn sample(prefix: &str, rest: usize) -> String {
        prefix.chars().chain("123456789".chars().cycle().take(rest)).collect()
    }

    #[test]
    fn both_numbers_are_taken_and_one_is_current() {
        for Renumbering { old, rest, new } in RENUMBERINGS {
            let (old, new) = (sample(old, *rest), sample(new, *rest));
            assert!(PhoneNumber::parse(&old).is_ok(), "{old} is no longer taken: its row can go");
            assert!(PhoneNumber::parse(&new).is_ok(), "{new}");
            assert_eq!(current(&old), new);
            assert_eq!(current(&new), new, "of {old}");
        }
    }

    #[test]
    fn only_old_numbers_change() {
        for (number, expected) in [
            ("+22940123456", "+2290140123456"),
            ("+24106031234", "+24166031234"),
            ("+2416031234", "+24166031234"),
            ("+24166031234", "+24166031234"),
            ("+841681234567", "+84381234567"),
            ("+842812345678", "+842812345678"),
            ("+551187654321", "+5511987654321"),
            ("+5511987654321", "+5511987654321"),
            ("+551133334444", "+551133334444"),
            ("+558007292837", "+558007292837"),
            ("+5491123456789", "+541123456789"),
            ("+541123456789", "+541123456789"),
            ("+573211234567", "+573211234567"),
            ("+390549886377", "+3780549886377"),
            ("+390236618300", "+390236618300"),
            ("+972501234567", "+972501234567"),
            ("+14155550100", "+14155550100"),
        ] {
            assert_eq!(current(number), expected);
        }
    }
}
