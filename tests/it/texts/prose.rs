//! Reads the words of a template as their reader sees them.

use std::collections::BTreeSet;

/// What a template consists of.
enum Token<'a> {
    Words(&'a str),
    Variable(&'a str),
    Tag(&'a str),
}

fn tokens(source: &str) -> Vec<Token<'_>> {
    let (mut tokens, mut rest) = (Vec::new(), source);
    while let Some(at) = rest.find("{{").into_iter().chain(rest.find("{%")).chain(rest.find("{#")).min() {
        let (words, from) = rest.split_at(at);
        let end = ["}}", "%}", "#}"]
            [["{{", "{%", "{#"].iter().position(|begin| from.starts_with(begin)).expect("one")];
        let length = from.find(end).unwrap_or_else(|| panic!("'{from}' does not end"));
        let inner = from[2..length].trim_matches('-').trim();
        tokens.push(Token::Words(words));
        match end {
            "}}" => tokens.push(Token::Variable(inner)),
            "%}" => tokens.push(Token::Tag(inner)),
            _ => {}
        }
        rest = &from[length + 2..];
    }
    tokens.push(Token::Words(rest));
    tokens
}

/// A text of `assets/i18n`, in which a variable is `{name}`, as a template.
pub fn as_template(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

/// The variables and tags of a template. Words in them are left out, as are forms that only one language has.
pub fn expressions(source: &str) -> BTreeSet<String> {
    let normal = |inner: &str| {
        let quoted = inner.split('"').enumerate();
        let without_words =
            quoted.map(|(at, part)| if at % 2 == 1 && part.contains(' ') { "…" } else { part });
        without_words.collect::<Vec<_>>().join("\"")
    };
    let expression = |token| match token {
        Token::Words(_) => None,
        Token::Variable(inner) => Some(format!("{{{{{}}}}}", normal(inner))),
        Token::Tag(inner) => Some(format!("{{% {} %}}", normal(inner))),
    };
    tokens(source).into_iter().filter_map(expression).collect()
}

/// The words of a template: the text with the longest branch of each condition, then the other branches and the words
/// inside variables. A line is a paragraph.
pub fn read(source: &str, is_html: bool) -> Vec<String> {
    let source = if is_html { source.replace('\n', " ") } else { source.to_owned() };
    let mut pieces = Vec::new();
    let (words, _) = until_branch(&mut tokens(&source).into_iter(), &mut pieces);
    pieces.insert(0, words);
    if is_html { pieces.iter().map(|piece| without_markup(piece)).collect() } else { pieces }
}

/// The words up to the tag that continues or ends a branch, and that tag.
fn until_branch<'a>(
    tokens: &mut dyn Iterator<Item = Token<'a>>,
    apart: &mut Vec<String>,
) -> (String, &'a str) {
    let mut words = String::new();
    while let Some(token) = tokens.next() {
        match token {
            Token::Words(text) => words.push_str(text),
            Token::Variable(inner) => {
                words.push('7');
                let quoted = inner.split('"').skip(1).step_by(2).filter(|literal| literal.contains(' '));
                apart.extend(quoted.map(str::to_owned));
            }
            Token::Tag(tag) => match tag.split_whitespace().next().unwrap_or_default() {
                begin @ ("if" | "for") => {
                    let mut branches = Vec::new();
                    loop {
                        let (branch, end) = until_branch(tokens, apart);
                        branches.push(branch);
                        if end.is_empty() || end.strip_prefix("end") == Some(begin) {
                            break;
                        }
                    }
                    branches.sort_by_key(String::len);
                    words.push_str(&branches.pop().unwrap_or_default());
                    apart.append(&mut branches);
                }
                end @ ("elif" | "else" | "endif" | "endfor") => return (words, end),
                _ => words.push('\n'),
            },
        }
    }
    (words, "")
}

/// Elements within a sentence. All others end it.
const INLINE: [&str; 8] = ["a", "b", "bdi", "code", "em", "span", "strong", "time"];

fn without_markup(html: &str) -> String {
    let mut words = String::new();
    for (number, part) in html.split('<').enumerate() {
        let text = if number == 0 { part } else { part.split_once('>').map_or("", |(_, text)| text) };
        let name = part.trim_start_matches('/').split([' ', '>']).next().unwrap_or_default();
        if number > 0 && !INLINE.contains(&name) {
            words.push('\n');
        }
        words.push_str(text);
    }
    let entities = [("&nbsp;", "\u{a0}"), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")];
    entities.iter().fold(words, |words, (entity, character)| words.replace(entity, character))
}

/// The sentences of a text: to a full stop, question or exclamation mark, or the end of a line. A remark in
/// parentheses between two sentences is one as well.
pub fn sentences(words: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    for line in words.lines() {
        let mut sentence = String::new();
        let mut characters = line.chars().peekable();
        while let Some(c) = characters.next() {
            sentence.push(c);
            let is_last = characters.peek().is_none_or(|next| next.is_whitespace() && *next != '\u{a0}');
            let remark = sentence.trim_start().starts_with('(') && c == ')';
            let closed = sentence.trim_end_matches(['”', '“', '»', ')', '"', '’', '\u{a0}']);
            if is_last && (remark || closed.ends_with(['.', '!', '?'])) {
                sentences.push(std::mem::take(&mut sentence));
            }
        }
        sentences.push(sentence);
    }
    sentences.into_iter().map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
}

/// The number of words; signs that stand alone are none.
pub fn count_words(sentence: &str) -> usize {
    sentence.split_whitespace().filter(|word| word.contains(char::is_alphanumeric)).count()
}

#[test]
fn templates_are_read_as_people_see_them() {
    let source = "{% extends \"x\" %}<h1>A <em>b</em></h1>\n<p>{% if a %}One.{% else %}Two or {{ n | days }}.{% endif %} \
        (our word) Three &amp; {{ c or \"no name\" }}</p>";
    let read = read(source, true);
    let words: Vec<&str> = read[0].lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(words, ["A b", "Two or 7. (our word) Three & 7"]);
    assert_eq!(read[1..], ["One.", "no name"]);
    assert_eq!(sentences(&read[0]), ["A b", "Two or 7.", "(our word)", "Three & 7"]);
    assert_eq!(
        sentences("Ja\u{a0}? «\u{a0}Non.\u{a0}» a.b 02:32"),
        ["Ja\u{a0}?", "«\u{a0}Non.\u{a0}»", "a.b 02:32"]
    );
    assert_eq!(count_words("Ja\u{a0}: eins – «\u{a0}zwei\u{a0}»"), 3);
    let expected =
        ["{% extends \"x\" %}", "{% if a %}", "{% else %}", "{% endif %}", "{{c or \"…\"}}", "{{n | days}}"];
    assert_eq!(expressions(source), expected.map(str::to_owned).into());
    assert_eq!(expressions(&as_template("in {days}")), ["{{days}}".to_owned()].into());
}
