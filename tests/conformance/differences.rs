//! Where weir deliberately differs from the native plugins: the one list, each
//! with its reason. A difference that is listed and does not occur any more
//! fails its cases.

use super::cases::Case;
use crate::lab::Facts;

/// Which reference a difference is with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    /// Debian 12's 1.1.1 and other plugins that do not speak CNI 1.1.0.
    Old,
    /// 1.9.1 and others that do.
    Recent,
    /// All.
    Any,
}

/// A deliberate difference.
pub(crate) struct Difference {
    /// Why.
    pub(crate) reason: &'static str,
    /// The fact; `*` stands for anything.
    pub(crate) fact: &'static str,
    /// What weir and the native plugins say; none for nothing, `*` for anything.
    pub(crate) weir: Option<&'static str>,
    pub(crate) native: Option<&'static str>,
    /// With which reference.
    pub(crate) against: Against,
    /// In which cases it has to occur.
    pub(crate) case: fn(&Case) -> bool,
}

/// A fact that is not the same in both labs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) fact: String,
    pub(crate) weir: Option<String>,
    pub(crate) native: Option<String>,
}

/// The list.
pub(crate) const DIFFERENCES: &[Difference] = &[];

impl Difference {
    /// Whether the difference is to be expected in a case.
    pub(crate) fn applies(&self, case: &Case, is_recent: bool) -> bool {
        let reference = match self.against {
            Against::Old => !is_recent,
            Against::Recent => is_recent,
            Against::Any => true,
        };
        reference && (self.case)(case)
    }

    /// Whether it explains a gap.
    pub(crate) fn explains(&self, gap: &Gap) -> bool {
        let side = |pattern: Option<&str>, value: Option<&str>| match (pattern, value) {
            (None, None) => true,
            (Some(pattern), Some(value)) => matches(pattern, value),
            _ => false,
        };
        matches(self.fact, &gap.fact)
            && side(self.weir, gap.weir.as_deref())
            && side(self.native, gap.native.as_deref())
    }
}

/// What differs between the facts of both labs.
pub(crate) fn gaps(weir: &Facts, native: &Facts) -> Vec<Gap> {
    let keys: std::collections::BTreeSet<&String> = weir.keys().chain(native.keys()).collect();
    let differing = keys.into_iter().filter(|key| weir.get(*key) != native.get(*key));
    differing
        .map(|key| Gap { fact: key.clone(), weir: weir.get(key).cloned(), native: native.get(key).cloned() })
        .collect()
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |value: &Option<String>| value.as_ref().map_or("nothing".to_owned(), |value| format!("{value:?}"));
        write!(f, "{}: weir {}, native {}", self.fact, text(&self.weir), text(&self.native))
    }
}

/// Whether a text fits a pattern in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    (0..=text.len()).filter(|end| text.is_char_boundary(*end)).any(|end| matches(rest, &text[end..]))
}
