//! The walk of the demo: each request, its answer, and what it means.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use super::mailbox;
use crate::{
    cli::say,
    domain::{lookup::LookupHash, threepid::Address},
};

const ADDRESS: &str = "alice@example.org";
const SECRET: &str = "a_secret_that_the_app_chose";

/// Somebody who walks through the job.
pub struct Walk {
    client: Client,
    base: String,
    homeserver: String,
    mail: PathBuf,
}

/// An answer.
struct Reply {
    status: u16,
    body: String,
}

impl Reply {
    fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body).context("the answer is not JSON")
    }

    fn text(&self, member: &str) -> anyhow::Result<String> {
        let value = self.json()?;
        Ok(value[member].as_str().with_context(|| format!("the answer has no '{member}'"))?.to_owned())
    }
}

impl Walk {
    /// `base` is the server's URL; `mail` is where it puts its mail.
    pub fn new(base: String, homeserver: String, mail: PathBuf) -> anyhow::Result<Self> {
        let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { client, base, homeserver, mail })
    }

    /// Walks from registration to the second, empty lookup.
    pub async fn run(&self) -> anyhow::Result<()> {
        let alice = format!("@alice:{}", self.homeserver);
        say(&format!(
            "A server runs at {}, and alice ({alice}) wants to be found by her address.\n",
            self.base
        ))?;
        let token = self.register("alice").await?;
        let token = Some(token.as_str());

        let refused = self.call(Method::GET, "/hash_details", token, None).await?;
        expect(&refused, 403, "Nothing works before the terms are accepted.")?;
        let terms = self.call(Method::GET, "/terms", None, None).await?;
        expect(&terms, 200, "These are the documents to accept, in each language.")?;
        let terms = terms.json()?;
        let url = &terms["policies"]["terms_of_service"]["en"]["url"];
        let accepted =
            self.call(Method::POST, "/terms", token, Some(json!({ "user_accepts": [url] }))).await?;
        expect(&accepted, 200, "alice has accepted them; one language is enough.")?;

        let sid = self.confirm_address(token).await?;
        expect_found(
            &self.look_up(token).await?,
            None,
            "Confirming published nothing: the address is not found.",
        )?;

        let bind = json!({ "sid": sid, "client_secret": SECRET, "mxid": alice });
        let bound = self.call(Method::POST, "/3pid/bind", token, Some(bind)).await?;
        expect(&bound, 200, "Now alice has published it, and the server has signed that.")?;

        let bob = self.register("bob").await?;
        let bob = Some(bob.as_str());
        let accepted = self.call(Method::POST, "/terms", bob, Some(json!({ "user_accepts": [url] }))).await?;
        expect(&accepted, 200, "bob has an account as well, and has accepted the terms.")?;
        expect_found(&self.look_up(bob).await?, Some(&alice), "bob knows the address, so he finds alice.")?;

        let threepid = json!({ "medium": "email", "address": ADDRESS });
        let unbind = json!({ "sid": sid, "client_secret": SECRET, "mxid": alice, "threepid": threepid });
        let unbound = self.call(Method::POST, "/3pid/unbind", token, Some(unbind)).await?;
        expect(&unbound, 200, "alice has changed her mind and taken the address back.")?;
        expect_found(&self.look_up(bob).await?, None, "It is gone at once: bob finds nothing any more.")
    }

    async fn register(&self, person: &str) -> anyhow::Result<String> {
        let body = json!({
            "access_token": format!("openid-of-{person}"),
            "token_type": "Bearer",
            "matrix_server_name": self.homeserver,
            "expires_in": 3600,
        });
        let reply = self.call(Method::POST, "/account/register", None, Some(body)).await?;
        expect(
            &reply,
            200,
            &format!("The homeserver confirmed that this is {person}; here is an access token."),
        )?;
        reply.text("token")
    }

    /// Asks for a mail, reads it, and confirms on the page that it links to. Gives the session.
    async fn confirm_address(&self, token: Option<&str>) -> anyhow::Result<String> {
        let body = json!({ "email": "Alice@Example.org", "client_secret": SECRET, "send_attempt": 1 });
        let reply = self.call(Method::POST, "/validate/email/requestToken", token, Some(body)).await?;
        expect(&reply, 200, "A validation session has begun, and a mail is on its way.")?;
        let sid = reply.text("sid")?;

        let mail = mailbox::read(&self.mail)?.pop().context("no mail came")?;
        say(&format!("\n== The mail to {}: {}\n", mail.to, mail.subject))?;
        for line in mail.text.lines() {
            say(&format!("   | {line}\n"))?;
        }
        let link = mail
            .text
            .split_whitespace()
            .find(|word| word.starts_with("http"))
            .context("no link in the mail")?;
        let page = self.send(self.client.get(link), &format!("GET {link}"), None).await?;
        expect(&page, 200, "Opening the link only asks. Mail scanners open links; they confirm nothing.")?;

        let (_, query) = link.split_once('?').context("the link has no query")?;
        let form = format!("{query}&decision=confirm");
        let url = format!("{}/confirm", self.base);
        let request = self
            .client
            .post(&url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.clone());
        let page = self.send(request, &format!("POST {url}"), Some(json!(form))).await?;
        expect(&page, 200, "alice has pressed Confirm.")?;
        Ok(sid)
    }

    /// Looks the address up by its hash, as apps do.
    async fn look_up(&self, token: Option<&str>) -> anyhow::Result<Option<String>> {
        let details = self.call(Method::GET, "/hash_details", token, None).await?;
        expect(&details, 200, "Addresses are looked up hashed, with this pepper.")?;
        let pepper = details.text("lookup_pepper")?;
        let address = Address::email(ADDRESS).context("an address")?;
        let hash = LookupHash::of(&address, &pepper).to_base64();
        let body = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": [hash] });
        let reply = self.call(Method::POST, "/lookup", token, Some(body)).await?;
        ensure!(reply.status == 200, "the lookup was refused");
        Ok(reply.json()?["mappings"][&hash].as_str().map(str::to_owned))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> anyhow::Result<Reply> {
        let path = format!("/_matrix/identity/v2{path}");
        let title = format!("{method} {path}");
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = &body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        self.send(request, &title, body).await
    }

    async fn send(&self, request: RequestBuilder, title: &str, body: Option<Value>) -> anyhow::Result<Reply> {
        let shown = body.map(|body| format!("   {body}\n")).unwrap_or_default();
        say(&format!("\n-> {title}\n{shown}"))?;
        let response = request.send().await.context("the server does not answer")?;
        let reply = Reply { status: response.status().as_u16(), body: response.text().await? };
        let heading = reply.body.split_once("<h1>").and_then(|(_, rest)| rest.split_once("</h1>"));
        let shown = heading.map_or(reply.body.clone(), |(heading, _)| format!("a page: \"{heading}\""));
        say(&format!("<- {} {shown}\n", reply.status))?;
        Ok(reply)
    }
}

fn expect(reply: &Reply, status: u16, meaning: &str) -> anyhow::Result<()> {
    ensure!(reply.status == status, "expected status {status}");
    say(&format!("   {meaning}\n"))
}

fn expect_found(found: &Option<String>, expected: Option<&str>, meaning: &str) -> anyhow::Result<()> {
    ensure!(found.as_deref() == expected, "the lookup found {found:?}");
    say(&format!("   {meaning}\n"))
}
