//! The steps of the demo: what people do with the server, and what each answer means.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use super::{
    client::{Client, Reply},
    mailbox::{self, Mail},
};
use crate::{
    cli::print,
    domain::{
        lookup::LookupHash,
        threepid::{Address, Medium},
    },
    ops::privacy_notice::DOCUMENT,
};

const ADDRESS: &str = "alice@example.org";
const SECRET: &str = "a_secret_that_the_app_chose";
const NUMBER: &str = "447400123456";
/// How long the outbox may take to deliver something.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);

/// The steps, and where they find what the server has sent.
pub struct Walk {
    client: Client,
    homeserver: String,
    /// The invitations that the homeserver has received.
    delivered: watch::Receiver<Vec<Value>>,
    /// The directories with mails and text messages.
    mail: PathBuf,
    sms: PathBuf,
}

impl Walk {
    /// `base` is the server's URL; `directory` has its `mail` and `sms`.
    pub fn new(
        base: String,
        homeserver: String,
        delivered: watch::Receiver<Vec<Value>>,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let (mail, sms) = (directory.join("mail"), directory.join("sms"));
        Ok(Self { client: Client::new(base)?, homeserver, delivered, mail, sms })
    }

    /// Runs all steps, from the registration to a lookup of alice's number.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let alice = format!("@alice:{}", self.homeserver);
        print(&format!(
            "A server runs at {}, and alice ({alice}) wants to be found by her address.\n",
            self.client.base()
        ))?;
        let alices = self.register("alice").await?;
        let alices = Some(alices.as_str());

        let refused = self.call(Method::GET, "/hash_details", alices, None).await?;
        refused.expect(403, "Almost nothing works before alice accepts the privacy notice.")?;
        let terms = self.call(Method::GET, "/terms", None, None).await?;
        let terms = terms.expect(200, "This is the notice to accept, in each language.")?.json()?;
        let url = terms["policies"][DOCUMENT]["en"]["url"].as_str().context("a URL")?.to_owned();
        let page = self.client.open(&url).await?;
        page.expect(200, "alice reads it. The server made it from its own settings.")?;
        let accepts = || Some(json!({ "user_accepts": [url] }));
        let accepted = self.call(Method::POST, "/terms", alices, accepts()).await?;
        accepted.expect(200, "alice has accepted it; one language is enough.")?;

        let sid = self.confirm_address(alices).await?;
        let found = self.look_up(alices, ADDRESS).await?;
        expect_found(&found, None, "Confirming publishes nothing: a lookup does not find the address.")?;

        let session = json!({ "sid": sid, "client_secret": SECRET, "mxid": alice });
        let bound = self.call(Method::POST, "/3pid/bind", alices, Some(session.clone())).await?;
        bound.expect(200, "Now alice has published it, and the server has signed the association.")?;

        let bobs = self.register("bob").await?;
        let bobs = Some(bobs.as_str());
        let accepted = self.call(Method::POST, "/terms", bobs, accepts()).await?;
        accepted.expect(200, "bob has an account as well, and has accepted the notice.")?;
        let found = self.look_up(bobs, ADDRESS).await?;
        expect_found(&found, Some(&alice), "bob knows the address, so he finds alice.")?;

        let mut unbind = session.clone();
        unbind["threepid"] = json!({ "medium": "email", "address": ADDRESS });
        let unbound = self.call(Method::POST, "/3pid/unbind", alices, Some(unbind)).await?;
        unbound.expect(200, "alice has changed her mind and removed the address.")?;
        let found = self.look_up(bobs, ADDRESS).await?;
        expect_found(&found, None, "It is gone at once: bob finds nothing any more.")?;

        self.invite(bobs).await?;
        let bound = self.call(Method::POST, "/3pid/bind", alices, Some(session)).await?;
        bound.expect(200, "alice publishes her address again ...")?;
        let delivered =
            timeout(DELIVERY_TIMEOUT, self.delivered.wait_for(|invitations| !invitations.is_empty())).await;
        let delivered =
            delivered.context("the homeserver did not receive the invitation in time")??.last().cloned();
        print(&format!("\n== What her homeserver hears\n   {}\n", delivered.unwrap_or_default()))?;
        print("   ... and her homeserver hears of the invitation, which is now in her app.\n")?;

        self.publish_number(alices, &alice).await?;
        let found = self.look_up(bobs, NUMBER).await?;
        expect_found(&found, Some(&alice), "bob has the number in his phone, so he finds alice by it.")
    }

    async fn register(&self, person: &str) -> anyhow::Result<String> {
        let body = json!({
            "access_token": format!("openid-of-{person}"),
            "token_type": "Bearer",
            "matrix_server_name": self.homeserver,
            "expires_in": 3600,
        });
        let reply = self.call(Method::POST, "/account/register", None, Some(body)).await?;
        let meaning = format!("The homeserver confirmed that this is {person}; here is an access token.");
        reply.expect(200, &meaning)?.text("token")
    }

    /// alice requests a mail, reads it, and confirms on the page that it links to. Returns the session.
    async fn confirm_address(&self, token: Option<&str>) -> anyhow::Result<String> {
        let body = json!({ "email": "Alice@Example.org", "client_secret": SECRET, "send_attempt": 1 });
        let reply = self.call(Method::POST, "/validate/email/requestToken", token, Some(body)).await?;
        let reply = reply.expect(200, "A validation session has begun, and the server has sent a mail.")?;
        let sid = reply.text("sid")?;

        let mail = mailbox::read(&self.mail)?.pop().context("no mail came")?;
        show(&mail)?;
        let link = mail.text.split_whitespace().find(|word| word.contains("/c/"));
        let link = link.context("no link to a question in the mail")?;
        let page = self.client.open(link).await?;
        page.expect(
            200,
            "The link only opens a page that asks. Mail scanners open links, and must confirm nothing.",
        )?;
        let path =
            link.find("/c/").and_then(|at| link.get(at..)).context("the link does not lead to a question")?;
        let page = self.client.press(path, "decision=confirm".to_owned()).await?;
        page.expect(200, "alice has pressed Confirm.")?;
        Ok(sid)
    }

    /// bob invites the address, and its owner reads the mail.
    async fn invite(&self, token: Option<&str>) -> anyhow::Result<()> {
        print("\nbob wants to invite alice to his room, and knows only her address.\n")?;
        let body = json!({
            "medium": "email",
            "address": ADDRESS,
            "room_id": format!("!tea:{}", self.homeserver),
            "sender": format!("@bob:{}", self.homeserver),
            "room_name": "Tea at five",
        });
        let reply = self.call(Method::POST, "/store-invite", token, Some(body)).await?;
        reply.expect(200, "The room gets a token and two keys. Of the address it sees only a...@e...")?;
        let comes = async {
            loop {
                // Skip the mails that tell alice about her binding.
                let mut mails = mailbox::read(&self.mail)?.into_iter();
                match mails.find(|mail| mail.text.contains("/#/room/")) {
                    Some(mail) => return anyhow::Ok(mail),
                    None => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let mail =
            timeout(DELIVERY_TIMEOUT, comes).await.context("the mail of the invitation did not come")??;
        show(&mail)?;
        print("   With that link alice could join without publishing anything. She publishes instead:\n")
    }

    /// alice validates a number with the code from a text message, and publishes it.
    async fn publish_number(&self, token: Option<&str>, user_id: &str) -> anyhow::Result<()> {
        print("\nalice wants to be found by her phone number, too.\n")?;
        let body = json!({
            "country": "GB", "phone_number": "07400 123456", "client_secret": SECRET, "send_attempt": 1,
        });
        let reply = self.call(Method::POST, "/validate/msisdn/requestToken", token, Some(body)).await?;
        let reply = reply.expect(200, "The server understands the number, and has sent a text message.")?;
        let sid = reply.text("sid")?;
        let file = std::fs::read_dir(&self.sms)?.next().context("no message came")??.path();
        let message = std::fs::read_to_string(file)?;
        print("\n== The message\n")?;
        message.lines().try_for_each(|line| print(&format!("   | {line}\n")))?;
        let is_code = |word: &&str| word.len() == 6 && word.bytes().all(|b| b.is_ascii_digit());
        let code = message.split_whitespace().find(is_code).context("no code in the message")?;

        let body = json!({ "sid": sid, "client_secret": SECRET, "token": code });
        let submitted = self.call(Method::POST, "/validate/msisdn/submitToken", token, Some(body)).await?;
        submitted.expect(200, "alice has typed the code.")?;
        let body = json!({ "sid": sid, "client_secret": SECRET, "mxid": user_id });
        let bound = self.call(Method::POST, "/3pid/bind", token, Some(body)).await?;
        bound.expect(200, "Now the number leads to alice, too.").map(drop)
    }

    /// Looks up an address or a number by its hash, as apps do.
    async fn look_up(&self, token: Option<&str>, text: &str) -> anyhow::Result<Option<String>> {
        let details = self.call(Method::GET, "/hash_details", token, None).await?;
        let details = details.expect(200, "Addresses are looked up hashed, with this pepper.")?;
        let pepper = details.text("lookup_pepper")?;
        let medium = if text.contains('@') { Medium::Email } else { Medium::Msisdn };
        let address = Address::parse(medium, text).context("an address")?;
        let hash = LookupHash::of(&address, &pepper).to_base64();
        let body = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": [hash] });
        let reply = self.call(Method::POST, "/lookup", token, Some(body)).await?;
        Ok(reply.json()?["mappings"][&hash].as_str().map(str::to_owned))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> anyhow::Result<Reply> {
        self.client.call(method, path, token, body).await
    }
}

/// Prints a mail.
fn show(mail: &Mail) -> anyhow::Result<()> {
    print(&format!("\n== The mail to {}: {}\n", mail.to, mail.subject))?;
    mail.text.lines().try_for_each(|line| print(&format!("   | {line}\n")))
}

fn expect_found(found: &Option<String>, expected: Option<&str>, meaning: &str) -> anyhow::Result<()> {
    ensure!(found.as_deref() == expected, "the lookup found {found:?}");
    print(&format!("   {meaning}\n"))
}
