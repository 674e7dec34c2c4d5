//! Whether a page is well-formed, holds what a screen reader needs, and shows homeserver and localpart of an account
//! apart.

/// Whether a page or the HTML of a mail shows the homeserver and the localpart of an account apart, each isolated.
pub fn names(html: &str, id: &str) -> bool {
    let (localpart, homeserver) = super::parts(id);
    let is_said = |part: &str| html.contains(&format!("<bdi dir=\"ltr\">{part}</bdi>"));
    is_said(localpart) && is_said(homeserver)
}

/// Elements that have no end.
const VOID: &[&str] = &["br", "hr", "img", "input", "link", "meta"];

/// Asserts that every element is closed where it was opened, that there is one first heading and no
/// level is left out, that tables have a caption and headers with a scope, and that no identifier
/// is there twice.
#[track_caller]
pub fn check(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let (mut level, mut firsts, mut ids) = (0, 0, Vec::new());
    let body = page.strip_prefix("<!doctype html>").expect("a page");
    for rest in body.split('<').skip(1) {
        let (tag, _) = rest.split_once('>').unwrap_or_else(|| panic!("'<{rest}' does not end"));
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> closes something else: {rest}");
            continue;
        }
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "<{tag}>");
        assert_eq!(attributes.matches('"').count() % 2, 0, "<{tag}>");
        if let Some(heading) = name.strip_prefix('h').and_then(|level| level.parse::<u8>().ok()) {
            assert!(heading <= level + 1, "{name} comes after h{level}");
            level = heading;
            firsts += u8::from(heading == 1);
        }
        assert!(name != "th" || attributes.contains("scope=\""), "<{tag}>");
        assert!(name != "table" || body.contains("<caption>"));
        ids.extend(attributes.split_once("id=\"").map(|(_, id)| id.split('"').next().unwrap_or_default()));
        if !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} are not closed");
    assert_eq!(firsts, 1, "there is one h1");
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an identifier is there twice");
}
