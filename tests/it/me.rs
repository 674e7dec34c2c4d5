//! A person's own page: requesting the link, opening it, and the buttons.

mod acts;
mod ask;
mod visit;

use reqwest::Method;

use crate::support::{Mail, Reply, Server};

/// Checks the properties that every page must have.
#[track_caller]
fn shows(reply: &Reply, status: u16, outcome: &str) {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    assert!(reply.text.contains(&format!("data-outcome=\"{outcome}\"")), "not {outcome}: {}", reply.text);
    assert!(!reply.text.to_lowercase().contains("<script"), "no script");
    assert_eq!(reply.text.matches("<h1>").count(), 1, "one heading of the first level");
    let labels = reply.text.matches("<label for=").count();
    let inputs = reply.text.matches("<input type=\"text\"").count() + reply.text.matches("<select").count();
    assert_eq!(labels, inputs, "every field has a label");
    let policy = reply.headers["content-security-policy"].to_str().expect("text");
    assert!(policy.contains("default-src 'none'") && policy.contains("form-action 'self'"));
    assert_eq!(reply.headers["referrer-policy"], "no-referrer");
    assert_eq!(reply.headers["cache-control"], "no-store");
}

/// The cookie that an answer sets, and its attributes in alphabetical order.
fn cookie_of(reply: &Reply) -> (&str, Vec<&str>) {
    let mut parts = reply.headers["set-cookie"].to_str().expect("text").split("; ");
    let cookie = parts.next().expect("a cookie");
    let mut attributes: Vec<&str> = parts.collect();
    attributes.sort_unstable();
    (cookie, attributes)
}

/// A browser during a visit.
#[derive(Clone)]
pub struct Guest {
    /// The value of the header `Cookie`.
    cookie: String,
    /// The hidden token in the page's forms.
    form: String,
}

impl Server {
    /// Sends a form, as a browser does.
    async fn fill(&self, path: &str, cookie: Option<&str>, fields: &[(&str, &str)]) -> Reply {
        let mut request = self.build(Method::POST, path);
        if let Some(cookie) = cookie {
            request = request.header("cookie", cookie);
        }
        let body = serde_urlencoded::to_string(fields).expect("a form");
        self.send(request.header("content-type", "application/x-www-form-urlencoded").body(body)).await
    }

    /// Opens a page with a cookie.
    async fn see(&self, path: &str, cookie: &str) -> Reply {
        self.send(self.build(Method::GET, path).header("cookie", cookie)).await
    }

    async fn ask_for(&self, address: &str) -> Reply {
        self.fill("/me", None, &[("address", address)]).await
    }

    /// The mails with a link to the page of an address.
    fn links_to(&self, address: &str) -> Vec<Mail> {
        self.mails()
            .into_iter()
            .filter(|mail| mail.to == address && mail.text.contains("/me/visit/"))
            .collect()
    }

    /// Requests a link and waits for it; returns its path with the query.
    async fn link_for(&self, address: &str) -> String {
        let before = self.links_to(address).len();
        shows(&self.ask_for(address).await, 200, "me_sent");
        self.until("a link", async || self.links_to(address).len() > before).await;
        link_in(&self.links_to(address)[before].text)
    }

    /// Follows a link.
    async fn follow(&self, link: &str) -> Guest {
        let reply = self.press_open(link).await;
        assert_eq!(
            (reply.status.as_u16(), reply.headers["location"].as_bytes()),
            (303, &b"/me/data?lang=en"[..])
        );
        let cookie = reply.headers["set-cookie"].to_str().expect("text");
        let cookie = cookie.split(';').next().expect("a pair").to_owned();
        let page = self.see("/me/data", &cookie).await;
        shows(&page, 200, "me_data");
        Guest { cookie, form: form_in(&page.text).to_owned() }
    }

    /// Opens a link and presses the button, as one browser does.
    async fn press_open(&self, link: &str) -> Reply {
        let opened = self.request(Method::GET, link, None, None).await;
        let cookie = opened.headers["set-cookie"].to_str().expect("text").split(';').next().expect("a pair");
        self.fill(link, Some(cookie), &[("form", form_in(&opened.text))]).await
    }

    pub async fn guest(&self, address: &str) -> Guest {
        let link = self.link_for(address).await;
        self.follow(&link).await
    }

    /// Presses a button of the page.
    pub async fn act(&self, guest: &Guest, path: &str, fields: &[(&str, &str)]) -> Reply {
        let mut all = vec![("form", guest.form.as_str())];
        all.extend(fields);
        self.fill(path, Some(&guest.cookie), &all).await
    }
}

/// The hidden token in the forms of a page.
fn form_in(page: &str) -> &str {
    let (_, rest) = page.split_once("name=\"form\" value=\"").expect("a form");
    rest.split_once('"').expect("its end").0
}

/// The link in a message, without the server's base URL.
fn link_in(text: &str) -> String {
    let link = text.split_whitespace().find(|word| word.contains("/me/visit/")).expect("a link");
    link.strip_prefix("https://id.test").expect("a link of this server").to_owned()
}

fn visits(outcome: &str, count: u32) -> String {
    format!("bindery_visits_total{{outcome=\"{outcome}\"}} {count}")
}
