//! Breaks the text part of a mail into lines that need no further encoding, so that words and links are whole even in a
//! program that shows the mail undecoded.

use crate::domain::names::ISOLATE;

/// The longest line (RFC 2045, section 6.7). Longer ones get soft breaks.
const MAX_WIDTH: usize = 76;

/// Breaks long lines between words. Breaks a word that fits on no line, unless it is a link. An isolated name counts
/// as a word: its isolation ends with the line.
pub fn wrap(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(wrap_line).collect();
    lines.join("\n")
}

fn wrap_line(line: &str) -> String {
    if width(line) <= MAX_WIDTH {
        return line.to_owned();
    }
    let (mut wrapped, mut used) = (String::with_capacity(line.len() + 8), 0);
    for word in words(line).flat_map(pieces) {
        let needed = width(word);
        if used > 0 && used + 1 + needed > MAX_WIDTH {
            wrapped.push('\n');
            used = 0;
        } else if used > 0 {
            wrapped.push(' ');
            used += 1;
        }
        wrapped.push_str(word);
        used += needed;
    }
    wrapped
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut is_isolated = false;
    line.split(move |c| {
        is_isolated = c == ISOLATE[0] || (is_isolated && c != ISOLATE[1]);
        c == ' ' && !is_isolated
    })
}

/// A word, or its pieces if it fits on no line.
fn pieces(word: &str) -> Vec<&str> {
    let (mut pieces, mut rest) = (Vec::new(), word);
    let is_whole = word.contains("://") || word.contains(ISOLATE[0]);
    while !is_whole && width(rest) > MAX_WIDTH {
        let mut used = 0;
        let fits = |(_, c): &(usize, char)| {
            used += cost(*c);
            used <= MAX_WIDTH
        };
        let end = rest.char_indices().take_while(fits).last().map_or(rest.len(), |(at, c)| at + c.len_utf8());
        let (piece, left) = rest.split_at(end);
        pieces.push(piece);
        rest = left;
    }
    pieces.push(rest);
    pieces
}

/// The number of characters that a text takes in quoted-printable.
fn width(text: &str) -> usize {
    text.chars().map(cost).sum()
}

fn cost(c: char) -> usize {
    if c == ' ' || (c.is_ascii_graphic() && c != '=') { 1 } else { 3 * c.len_utf8() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn links_and_the_signature_line_stay_whole() {
        let link = format!("https://id.test/{}", "x".repeat(90));
        for whole in [link.as_str(), "-- ", "", "short", &format!("{link}\n\n-- \nabc")] {
            assert_eq!(wrap(whole), whole);
        }
        let name = format!("\u{2068}{}\u{2069}", "a name ".repeat(12));
        assert_eq!(wrap(&format!("a room: {name} now")), format!("a room:\n{name}\nnow"));
        assert_eq!(wrap(&format!("see {link} now")), format!("see\n{link}\nnow"));
    }

    proptest! {
        #[test]
        fn no_line_is_longer_and_no_character_is_lost(text in "([a-zé=字]{1,100}[ \n]){0,20}") {
            let wrapped = wrap(&text);
            prop_assert!(wrapped.split('\n').all(|line| width(line) <= MAX_WIDTH), "{wrapped}");
            let words = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(words(&wrapped), words(&text));
        }
    }
}
