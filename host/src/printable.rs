//! Text of others, made harmless for whoever looks at it: on a terminal, in a
//! log, in the audit log.

use std::borrow::Cow;

/// Longer texts are cut: nobody reads them, and they push out what matters.
pub(crate) const LIMIT: usize = 1 << 10;

/// Stands where a text was cut.
const CUT: char = '…';

/// Replaces what is not meant to be seen but to do something (control and
/// format characters, line separators), and cuts what is too long. All of it is
/// one line.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.len() <= LIMIT && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len().min(LIMIT) + CUT.len_utf8());
    for character in text.chars() {
        let character = match character {
            '\n' => ' ',
            character if is_harmless(character) => character,
            _ => char::REPLACEMENT_CHARACTER,
        };
        if shown.len() + character.len_utf8() > LIMIT {
            shown.push(CUT);
            break;
        }
        shown.push(character);
    }
    Cow::Owned(shown)
}

/// The same for texts of several lines, which may be as long as `limit`.
pub(crate) fn printable_lines(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        let is_shown = character == '\n' || is_harmless(character);
        let character = if is_shown { character } else { char::REPLACEMENT_CHARACTER };
        if shown.len() + character.len_utf8() > limit {
            shown.push(CUT);
            break;
        }
        shown.push(character);
    }
    shown
}

/// Neither of the categories Cc, Cf, Zl and Zp of Unicode nor what no program
/// has a use for.
pub(crate) fn is_harmless(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
            | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_make_a_terminal_do_things_is_replaced() {
        for (text, shown) in [
            ("a\u{1b}[2Jb\nc", "a\u{fffd}[2Jb c"),
            ("\u{9b}31m\u{7f}\r\0", "\u{fffd}31m\u{fffd}\u{fffd}\u{fffd}"),
            ("user\u{202e}txt.exe\u{2066}", "user\u{fffd}txt.exe\u{fffd}"),
            ("zero\u{200b}width\u{feff} line\u{2028}", "zero\u{fffd}width\u{fffd} line\u{fffd}"),
            ("tag\u{e0041}", "tag\u{fffd}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(printable_lines("a\nb\u{1b}\u{202e}", 100), "a\nb\u{fffd}\u{fffd}");
        assert_eq!(printable_lines("abc", 2), "ab…");
    }

    #[test]
    fn words_of_people_stay() {
        for text in ["br-a", "größer als 5 µs", "網路", "😀", "", "a \"quoted\" \\ text"] {
            assert_eq!(printable(text), text);
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let shown = printable(&"ä".repeat(LIMIT)).into_owned();
        assert_eq!(shown, format!("{}…", "ä".repeat(LIMIT / 2)));
        let shown = printable(&"\u{1b}".repeat(LIMIT)).into_owned();
        assert!(shown.len() <= LIMIT + CUT.len_utf8(), "{}", shown.len());
        assert_eq!(printable(&"a".repeat(LIMIT)), "a".repeat(LIMIT));
    }
}
