//! Patterns of names: `*` stands for any text, `?` for any one character.

use serde::{Deserialize, Serialize};

/// More is a mistake, and what compares patterns with each other takes the
/// product of two lengths.
const LENGTH_LIMIT: usize = 255;

/// A list of patterns in one string, a line each. A policy has many lists that
/// are looked at once a call, so that reading one must not cost an allocation
/// for each pattern.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Patterns(String);

impl Patterns {
    /// The list of `patterns`, each of which was [checked](check).
    pub(super) fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        Self(patterns.into_iter().collect::<Vec<_>>().join("\n"))
    }

    /// The patterns in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.lines()
    }

    /// The list as it is stored.
    pub(super) fn as_text(&self) -> &str {
        &self.0
    }
}

/// Whether one of the patterns in a list's [text](Patterns::as_text) matches.
pub(super) fn any_matches(list: &str, text: &str) -> bool {
    list.lines().any(|pattern| matches(pattern, text))
}

/// Whether a pattern matches a text as a whole.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to go on if what follows the last star does not match: the star
    // takes one character more.
    let mut retry = None;
    loop {
        let (mut next_pattern, mut next_text) = (pattern.clone(), text.clone());
        match (next_pattern.next(), next_text.next()) {
            (Some('*'), _) => {
                retry = Some((next_pattern.clone(), text.clone()));
                pattern = next_pattern;
                continue;
            }
            (Some(expected), Some(found)) if expected == '?' || expected == found => {
                (pattern, text) = (next_pattern, next_text);
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        let Some((after_star, begin)) = &mut retry else { return false };
        if begin.next().is_none() {
            return false;
        }
        (pattern, text) = (after_star.clone(), begin.clone());
    }
}

/// Whether a name can be written as a pattern that matches it alone.
pub(super) fn is_literal(name: &str) -> bool {
    !name.contains(['*', '?'])
}

/// Whether all that `narrow` matches is certain to match `wide` too.
pub(super) fn covers(wide: &str, narrow: &str) -> bool {
    pairwise(wide, narrow, |wide, narrow, rest| match (wide, narrow) {
        (None, None) => true,
        (Some('*'), _) => rest.skip_first() || (narrow.is_some() && rest.skip_second()),
        (Some(_), Some('*')) => false,
        (Some('?'), Some(_)) => rest.skip_both(),
        (Some(one), Some(other)) => one == other && rest.skip_both(),
        _ => false,
    })
}

/// Whether there is a text that both patterns match.
pub(super) fn overlaps(one: &str, other: &str) -> bool {
    pairwise(one, other, |one, other, rest| match (one, other) {
        (None, None) => true,
        (Some('*'), _) => rest.skip_first() || (other.is_some() && rest.skip_second()),
        (_, Some('*')) => rest.skip_second() || (one.is_some() && rest.skip_first()),
        (Some('?'), Some(_)) | (Some(_), Some('?')) => rest.skip_both(),
        (Some(one), Some(other)) => one == other && rest.skip_both(),
        _ => false,
    })
}

/// What was found out about the remainders of two patterns.
struct Remainders<'a> {
    /// For each position in the second pattern, with the first one at the
    /// present position and at the next.
    present: &'a [bool],
    next: &'a [bool],
    position: usize,
}

impl Remainders<'_> {
    fn skip_first(&self) -> bool {
        self.next[self.position]
    }

    fn skip_second(&self) -> bool {
        self.present[self.position + 1]
    }

    fn skip_both(&self) -> bool {
        self.next[self.position + 1]
    }
}

/// Compares two patterns from their ends, so that every pair of remainders is
/// looked at once.
fn pairwise(
    first: &str,
    second: &str,
    relation: impl Fn(Option<char>, Option<char>, &Remainders<'_>) -> bool,
) -> bool {
    let first: Vec<char> = first.chars().collect();
    let second: Vec<char> = second.chars().collect();
    // Beyond the ends nothing holds; no relation asks for it.
    let mut next = vec![false; second.len() + 2];
    for at in (0..=first.len()).rev() {
        let mut present = vec![false; second.len() + 2];
        for position in (0..=second.len()).rev() {
            let rest = Remainders { present: &present, next: &next, position };
            let holds = relation(first.get(at).copied(), second.get(position).copied(), &rest);
            present[position] = holds;
        }
        next = present;
    }
    next[0]
}

/// What the names that a pattern stands for are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alphabet {
    /// A network's name.
    Identifier,
    /// A link's name.
    Link,
    /// The last part of a sysctl's path.
    Setting,
    /// A file's name: a plugin's type.
    File,
    /// Anything that can be printed.
    Text,
}

/// Says why a pattern can never match, or does not mean what it seems to.
pub(super) fn check(pattern: &str, alphabet: Alphabet) -> Result<(), String> {
    if pattern.is_empty() {
        return Err("a pattern must not be empty".to_owned());
    }
    if pattern.len() > LENGTH_LIMIT {
        return Err(format!("the pattern is longer than {LENGTH_LIMIT} bytes"));
    }
    if let Some(control) = pattern.chars().find(|c| c.is_control()) {
        return Err(format!("{pattern:?} contains the control character {control:?}"));
    }
    if let Some(syntax) = pattern.chars().find(|c| matches!(c, '[' | ']' | '{' | '}' | '\\')) {
        return Err(format!(
            "{pattern:?} contains '{syntax}': patterns know only * (any text) and ? (any one character)"
        ));
    }
    let (is_possible, names): (fn(char) -> bool, _) = match alphabet {
        Alphabet::Identifier => (
            |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'),
            "names of networks consist of letters, digits, '_', '.' and '-'",
        ),
        Alphabet::Link => (
            |c| !matches!(c, '/' | ':') && !c.is_whitespace(),
            "names of links have neither '/' nor ':' nor white space",
        ),
        Alphabet::Setting => (
            |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_',
            "settings of links consist of lower-case letters, digits and '_'",
        ),
        Alphabet::File => (|c| c != '/', "plugin types are no paths"),
        Alphabet::Text => return Ok(()),
    };
    let literal = || pattern.chars().filter(|c| *c != '*');
    if let Some(bad) = literal().find(|c| *c != '?' && !is_possible(*c)) {
        return Err(format!("{pattern:?} can never match, because of {bad:?}: {names}"));
    }
    if alphabet == Alphabet::Link && literal().map(char::len_utf8).sum::<usize>() > 15 {
        return Err(format!("{pattern:?} can never match: names of links have at most 15 bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_texts_match() {
        for (pattern, text) in [
            ("a", "a"),
            ("*", ""),
            ("*", "anything"),
            ("veth*", "veth"),
            ("veth*", "veth12"),
            ("*-a", "tenant-a"),
            ("*a*b", "xaxbxab"),
            ("a?c", "abc"),
            ("a?c", "aéc"),
            ("*?", "é"),
            ("a**b", "ab"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a", "A"),
            ("a", "ab"),
            ("a", "ba"),
            ("", "a"),
            ("?", ""),
            ("?", "ab"),
            ("veth*", "xveth1"),
            ("*-a", "tenant-ab"),
            ("a*b*c", "acb"),
            ("a?c", "ac"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_forever() {
        let pattern = "*a".repeat(100);
        let text = format!("{}b", "a".repeat(5000));
        let begun = std::time::Instant::now();
        assert!(!matches(&pattern, &text));
        assert!(begun.elapsed().as_secs() < 2);
    }

    #[test]
    fn relations_agree_with_what_matches() {
        let alphabet =
            ["", "a", "b", "*", "?", "a*", "*a", "a?", "?b", "a*b", "*a*", "??", "?*", "ab", "b*a"];
        let texts: Vec<String> = (0..=4)
            .flat_map(|length| {
                (0..2_u32.pow(length)).map(move |bits| {
                    (0..length).map(|at| if bits >> at & 1 == 1 { 'a' } else { 'b' }).collect::<String>()
                })
            })
            .collect();
        for one in alphabet {
            for other in alphabet {
                let both = texts.iter().any(|text| matches(one, text) && matches(other, text));
                assert_eq!(overlaps(one, other), both, "{one} {other}");
                if covers(one, other) {
                    let is_missed = |text: &&String| matches(other, text) && !matches(one, text);
                    assert_eq!(texts.iter().find(is_missed), None, "{one} {other}");
                }
            }
            assert!(covers(one, one) && covers("*", one), "{one}");
        }
        assert!(covers("a*", "ab*") && covers("a?", "ab") && !covers("ab*", "a*") && !covers("?", "*"));
    }

    #[test]
    fn patterns_that_cannot_match_are_refused() {
        for (pattern, alphabet) in [
            ("", Alphabet::Text),
            ("a\nb", Alphabet::Text),
            ("veth[0-9]", Alphabet::Link),
            ("{a,b}", Alphabet::Text),
            ("a b", Alphabet::Identifier),
            ("eth0/x", Alphabet::Link),
            ("abcdefghijklmnop", Alphabet::Link),
            ("net/ipv4", Alphabet::Setting),
            ("../bridge", Alphabet::File),
        ] {
            assert!(check(pattern, alphabet).is_err(), "{pattern}");
        }
        for (pattern, alphabet) in [
            ("*", Alphabet::Identifier),
            ("tenant-?-*", Alphabet::Identifier),
            ("abcdefghijklmno*", Alphabet::Link),
            ("rp_filter", Alphabet::Setting),
            ("host-*", Alphabet::File),
        ] {
            assert_eq!(check(pattern, alphabet), Ok(()), "{pattern}");
        }
    }
}
