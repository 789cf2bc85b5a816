//! Rules in the form in which they are looked up: what they match first, so
//! that the rest of a rule is decoded only if it matches.

use serde::{Deserialize, Serialize};

use super::Subject;
use super::rule::{Body, ConditionTexts, Effect, Rule};

/// The rules of a policy, encoded.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    /// The count, the heads, the bodies.
    bytes: Vec<u8>,
    /// Where that begins; before it is what a cache file notes.
    begin: usize,
}

/// What is decoded of every rule.
#[derive(Debug, Serialize, Deserialize)]
struct Head<'a> {
    effect: Effect,
    #[serde(borrow)]
    conditions: ConditionTexts<'a>,
    /// How many bytes the body has.
    size: u32,
}

/// How many heads there are, and how many bytes they have.
#[derive(Debug, Serialize, Deserialize)]
struct Preamble {
    count: u32,
    size: u32,
}

/// The bytes are no rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

impl From<postcard::Error> for Damaged {
    fn from(_: postcard::Error) -> Self {
        Self
    }
}

impl Rules {
    pub(super) fn compile(rules: &[Rule]) -> Result<Self, Damaged> {
        let (mut heads, mut bodies) = (Vec::new(), Vec::new());
        for Rule { effect, conditions, body } in rules {
            let before = bodies.len();
            bodies = postcard::to_extend(body, bodies)?;
            let size = u32::try_from(bodies.len() - before).map_err(|_| Damaged)?;
            let head = Head { effect: *effect, conditions: conditions.as_texts(), size };
            heads = postcard::to_extend(&head, heads)?;
        }
        let count = u32::try_from(rules.len()).map_err(|_| Damaged)?;
        let size = u32::try_from(heads.len()).map_err(|_| Damaged)?;
        let mut bytes = postcard::to_extend(&Preamble { count, size }, Vec::new())?;
        bytes.extend(heads);
        bytes.extend(bodies);
        Ok(Self { bytes, begin: 0 })
    }

    /// The rules that follow on something else.
    pub(super) fn in_file(bytes: Vec<u8>, begin: usize) -> Self {
        Self { bytes, begin }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.begin..).unwrap_or_default()
    }

    /// What the rules say that match a subject.
    pub(super) fn of(&self, subject: &Subject<'_>) -> Result<Vec<(Effect, Body)>, Damaged> {
        let mut matching = Vec::new();
        if self.bytes.is_empty() {
            return Ok(matching);
        }
        let (Preamble { count, size }, rest) = postcard::take_from_bytes(self.as_bytes())?;
        let (mut heads, mut bodies) = rest.split_at_checked(size as usize).ok_or(Damaged)?;
        for _ in 0..count {
            let (head, other_heads) = postcard::take_from_bytes::<Head<'_>>(heads)?;
            let (body, other_bodies) = bodies.split_at_checked(head.size as usize).ok_or(Damaged)?;
            (heads, bodies) = (other_heads, other_bodies);
            if head.conditions.match_subject(subject) {
                matching.push((head.effect, postcard::from_bytes(body)?));
            }
        }
        Ok(matching)
    }
}
