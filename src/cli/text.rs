//! Text for a terminal: readable numbers, names without control characters, and their width.

use indicatif::HumanCount;
use unicode_width::UnicodeWidthStr as _;

/// A number with its thousands set apart: `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    HumanCount(number).to_string()
}

/// A number of something, with its thousands set apart: `1 event`, `12,345 events`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {noun}{s}", grouped(number))
}

/// Escapes characters that a terminal would act on instead of showing them.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if acts_on_a_terminal(character) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

/// Whether a terminal acts on a character: control characters, and those that change the direction of text, break lines
/// or are invisible. (The joiners U+200C and U+200D are not among them: some languages need them.)
pub(super) fn acts_on_a_terminal(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Number of terminal cells that a text takes. Terminals disagree about rare characters; this is right for usual names.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 999, 1000, 336_776, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "336,776", "1,234,567"]);
        let counts = [0, 1, 2, 1000].map(|number| counted(number, "event"));
        assert_eq!(counts, ["0 events", "1 event", "2 events", "1,000 events"]);
    }

    #[test]
    fn nothing_that_drives_a_terminal_comes_through() {
        assert_eq!(
            printable("a\u{1b}[2J\r\n\u{7f}\u{9b}1m"),
            "a\\u{1b}[2J\\u{d}\\u{a}\\u{7f}\\u{9b}1m"
        );
        assert_eq!(printable("\u{202e}b\u{2028}\u{feff}c"), "\\u{202e}b\\u{2028}\\u{feff}c");
        assert_eq!(printable("né 日本 👍🏽"), "né 日本 👍🏽");
    }

    #[test]
    fn wide_letters_take_two_cells_and_marks_none() {
        let widths = ["", "abc", "né", "ne\u{301}", "日本", "ｗｅｂ", "한국", "👍"].map(width);
        assert_eq!(widths, [0, 3, 2, 2, 4, 6, 4, 2]);
    }
}
