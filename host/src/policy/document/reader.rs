//! Takes values out of a parsed file, and notes what is wrong with them and
//! where.

use std::ops::{Range, RangeInclusive};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::policy::error::Problem;

/// One file.
pub(super) struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    /// Where lines begin.
    lines: Vec<usize>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = [0].into_iter().chain(ends.map(|(at, _)| at + 1)).collect();
        Self { path, text, lines, problems: Vec::new() }
    }

    /// What was wrong, in the order of the file.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.position);
        self.problems
    }

    /// Line and column, counted from 1; columns are characters.
    pub(super) fn position(&self, offset: usize) -> (u32, u32) {
        let line = self.lines.partition_point(|begin| *begin <= offset);
        let begin = self.lines[line.saturating_sub(1)];
        let before = self.text.as_bytes().get(begin..offset).unwrap_or_default();
        let column = String::from_utf8_lossy(before).chars().count() + 1;
        // Lossless: files are smaller.
        (line as u32, column as u32)
    }

    pub(super) fn problem(&mut self, span: &Range<usize>, message: impl Into<String>) {
        let position = Some(self.position(span.start));
        self.problems.push(Problem { path: self.path.to_owned(), position, message: message.into() });
    }

    /// Refuses other keys than these.
    pub(super) fn expect_keys(&mut self, table: &DeTable<'_>, known: &[&[&str]]) {
        let known = known.concat();
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let message = format!("unknown key {name:?}: expected one of {}", known.join(", "));
                self.problem(&key.span(), message);
            }
        }
    }

    fn unexpected(&mut self, value: &Spanned<DeValue<'_>>, name: &str, expected: &str) {
        let found = value.get_ref().type_str();
        self.problem(&value.span(), format!("{name}: expected {expected}, found {}", article(found)));
    }

    pub(super) fn table<'v, 't>(
        &mut self,
        value: &'v Spanned<DeValue<'t>>,
        name: &str,
    ) -> Option<&'v DeTable<'t>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => {
                self.unexpected(value, name, "a table");
                None
            }
        }
    }

    pub(super) fn flag(&mut self, value: &Spanned<DeValue<'_>>, name: &str) -> Option<bool> {
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => {
                self.unexpected(value, name, "true or false");
                None
            }
        }
    }

    pub(super) fn number(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let number = match value.get_ref() {
            DeValue::Integer(integer) => u32::from_str_radix(integer.as_str(), integer.radix()).ok(),
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let expected =
                format!("a whole number of at least {} and at most {}", range.start(), range.end());
            match value.get_ref() {
                DeValue::Integer(integer) => {
                    self.problem(&value.span(), format!("{name}: expected {expected}, found {integer}"));
                }
                _ => self.unexpected(value, name, &expected),
            }
        }
        number
    }

    pub(super) fn text<'v>(&mut self, value: &'v Spanned<DeValue<'_>>, name: &str) -> Option<&'v str> {
        match value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => {
                self.unexpected(value, name, "a string");
                None
            }
        }
    }

    /// A string that means something.
    pub(super) fn converted<T>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        name: &str,
        convert: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match convert(self.text(value, name)?) {
            Ok(converted) => Some(converted),
            Err(message) => {
                self.problem(&value.span(), format!("{name}: {message}"));
                None
            }
        }
    }

    /// A string, or a list of them.
    pub(super) fn texts<'v>(
        &mut self,
        value: &'v Spanned<DeValue<'_>>,
        name: &str,
    ) -> Vec<(Range<usize>, &'v str)> {
        let items = match value.get_ref() {
            DeValue::String(text) => return vec![(value.span(), text)],
            DeValue::Array(items) => items,
            _ => {
                self.unexpected(value, name, "a string or a list of strings");
                return Vec::new();
            }
        };
        items.iter().filter_map(|item| Some((item.span(), self.text(item, name)?))).collect()
    }

    /// The same, of which each means something.
    pub(super) fn converted_texts<T>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        name: &str,
        convert: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut converted = Vec::new();
        for (span, text) in self.texts(value, name) {
            match convert(text) {
                Ok(good) => converted.push(good),
                Err(message) => self.problem(&span, format!("{name}: {message}")),
            }
        }
        converted
    }

    /// The same, of which each passes a check.
    pub(super) fn checked_texts<'v>(
        &mut self,
        value: &'v Spanned<DeValue<'_>>,
        name: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Vec<&'v str> {
        let mut good = Vec::new();
        for (span, text) in self.texts(value, name) {
            match check(text) {
                Ok(()) => good.push(text),
                Err(message) => self.problem(&span, format!("{name}: {message}")),
            }
        }
        good
    }
}

fn article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}
