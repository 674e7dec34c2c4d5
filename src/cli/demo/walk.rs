//! The walk of the demo: what people do with the server, step by step, and what it means.

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
    cli::say,
    domain::{
        lookup::LookupHash,
        threepid::{Address, Medium},
    },
    ops::privacy_notice::DOCUMENT,
};

const ADDRESS: &str = "alice@example.org";
const SECRET: &str = "a_secret_that_the_app_chose";
const NUMBER: &str = "447400123456";
/// How long something that happens by itself may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The walk, and where it looks at what left the server.
pub struct Walk {
    client: Client,
    homeserver: String,
    /// What the homeserver was told of invitations.
    told: watch::Receiver<Vec<Value>>,
    /// The directories with mails and with messages to telephones.
    mail: PathBuf,
    sms: PathBuf,
}

impl Walk {
    /// `base` is the server's URL; `directory` is where it puts its `mail` and `sms`.
    pub fn new(
        base: String,
        homeserver: String,
        told: watch::Receiver<Vec<Value>>,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let (mail, sms) = (directory.join("mail"), directory.join("sms"));
        Ok(Self { client: Client::new(base)?, homeserver, told, mail, sms })
    }

    /// Walks from registration to a number that leads to alice.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let alice = format!("@alice:{}", self.homeserver);
        say(&format!(
            "A server runs at {}, and alice ({alice}) wants to be found by her address.\n",
            self.client.base()
        ))?;
        let alices = self.register("alice").await?;
        let alices = Some(alices.as_str());

        let refused = self.call(Method::GET, "/hash_details", alices, None).await?;
        refused.expect(403, "Nothing works before the privacy notice is accepted.")?;
        let terms = self.call(Method::GET, "/terms", None, None).await?;
        let terms = terms.expect(200, "This is the notice to accept, in each language.")?.json()?;
        let url = terms["policies"][DOCUMENT]["en"]["url"].as_str().context("a URL")?.to_owned();
        let page = self.client.open(&url).await?;
        page.expect(200, "alice reads it: it is made from the settings that the server runs with.")?;
        let accepts = || Some(json!({ "user_accepts": [url] }));
        let accepted = self.call(Method::POST, "/terms", alices, accepts()).await?;
        accepted.expect(200, "alice has accepted it; one language is enough.")?;

        let sid = self.confirm_address(alices).await?;
        let found = self.look_up(alices, ADDRESS).await?;
        expect_found(&found, None, "Confirming published nothing: the address is not found.")?;

        let session = json!({ "sid": sid, "client_secret": SECRET, "mxid": alice });
        let bound = self.call(Method::POST, "/3pid/bind", alices, Some(session.clone())).await?;
        bound.expect(200, "Now alice has published it, and the server has signed that.")?;

        let bobs = self.register("bob").await?;
        let bobs = Some(bobs.as_str());
        let accepted = self.call(Method::POST, "/terms", bobs, accepts()).await?;
        accepted.expect(200, "bob has an account as well, and has accepted the notice.")?;
        let found = self.look_up(bobs, ADDRESS).await?;
        expect_found(&found, Some(&alice), "bob knows the address, so he finds alice.")?;

        let mut unbind = session.clone();
        unbind["threepid"] = json!({ "medium": "email", "address": ADDRESS });
        let unbound = self.call(Method::POST, "/3pid/unbind", alices, Some(unbind)).await?;
        unbound.expect(200, "alice has changed her mind and taken the address back.")?;
        let found = self.look_up(bobs, ADDRESS).await?;
        expect_found(&found, None, "It is gone at once: bob finds nothing any more.")?;

        self.invite(bobs).await?;
        let bound = self.call(Method::POST, "/3pid/bind", alices, Some(session)).await?;
        bound.expect(200, "alice publishes her address again ...")?;
        let told = timeout(PATIENCE, self.told.wait_for(|told| !told.is_empty())).await;
        let told = told.context("the homeserver was not told in time")??.last().cloned();
        say(&format!("\n== What her homeserver hears\n   {}\n", told.unwrap_or_default()))?;
        say("   ... and her homeserver hears of the invitation, which is now in her app.\n")?;

        self.publish_number(alices, &alice).await?;
        let found = self.look_up(bobs, NUMBER).await?;
        expect_found(&found, Some(&alice), "bob has the number in his telephone, so he finds alice by it.")
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

    /// Asks for a mail, reads it, and confirms on the page that it links to. Gives the session.
    async fn confirm_address(&self, token: Option<&str>) -> anyhow::Result<String> {
        let body = json!({ "email": "Alice@Example.org", "client_secret": SECRET, "send_attempt": 1 });
        let reply = self.call(Method::POST, "/validate/email/requestToken", token, Some(body)).await?;
        let reply = reply.expect(200, "A validation session has begun, and a mail is on its way.")?;
        let sid = reply.text("sid")?;

        let mail = mailbox::read(&self.mail)?.pop().context("no mail came")?;
        let link = show(&mail)?;
        let page = self.client.open(&link).await?;
        page.expect(200, "Opening the link only asks. Mail scanners open links; they confirm nothing.")?;
        let (_, query) = link.split_once('?').context("the link has no query")?;
        let page = self.client.press("/confirm", format!("{query}&decision=confirm")).await?;
        page.expect(200, "alice has pressed Confirm.")?;
        Ok(sid)
    }

    /// bob invites the address, and its mail is read.
    async fn invite(&self, token: Option<&str>) -> anyhow::Result<()> {
        say("\nbob wants alice in his room, and all that he knows is her address.\n")?;
        let body = json!({
            "medium": "email",
            "address": ADDRESS,
            "room_id": format!("!tea:{}", self.homeserver),
            "sender": format!("@bob:{}", self.homeserver),
            "room_name": "Tea at five",
        });
        let reply = self.call(Method::POST, "/store-invite", token, Some(body)).await?;
        reply.expect(
            200,
            "The room gets a token and two keys, and sees no more than a...@e... of the address.",
        )?;
        let comes = async {
            loop {
                // Mails to alice about her address come in between.
                let mut mails = mailbox::read(&self.mail)?.into_iter();
                match mails.find(|mail| mail.text.contains("/#/room/")) {
                    Some(mail) => return anyhow::Ok(mail),
                    None => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let mail = timeout(PATIENCE, comes).await.context("the mail of the invitation did not come")??;
        show(&mail)?;
        say("   With that link alice could join without publishing anything. She does it the other way:\n")
    }

    /// alice validates a number with the code of a message, and publishes it.
    async fn publish_number(&self, token: Option<&str>, user_id: &str) -> anyhow::Result<()> {
        say("\nalice wants to be found by her telephone number, too.\n")?;
        let body = json!({
            "country": "GB", "phone_number": "07400 123456", "client_secret": SECRET, "send_attempt": 1,
        });
        let reply = self.call(Method::POST, "/validate/msisdn/requestToken", token, Some(body)).await?;
        let reply = reply.expect(200, "The number was understood, and a message is on its way.")?;
        let sid = reply.text("sid")?;
        let file = std::fs::read_dir(&self.sms)?.next().context("no message came")??.path();
        let message = std::fs::read_to_string(file)?;
        say("\n== The message\n")?;
        message.lines().try_for_each(|line| say(&format!("   | {line}\n")))?;
        let is_code = |word: &&str| word.len() == 6 && word.bytes().all(|b| b.is_ascii_digit());
        let code = message.split_whitespace().find(is_code).context("no code in the message")?;

        let body = json!({ "sid": sid, "client_secret": SECRET, "token": code });
        let submitted = self.call(Method::POST, "/validate/msisdn/submitToken", token, Some(body)).await?;
        submitted.expect(200, "alice has typed the code.")?;
        let body = json!({ "sid": sid, "client_secret": SECRET, "mxid": user_id });
        let bound = self.call(Method::POST, "/3pid/bind", token, Some(body)).await?;
        bound.expect(200, "Now the number leads to alice as well.").map(drop)
    }

    /// Looks an address or a number up by its hash, as apps do.
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

/// Shows a mail; gives the link in it.
fn show(mail: &Mail) -> anyhow::Result<String> {
    say(&format!("\n== The mail to {}: {}\n", mail.to, mail.subject))?;
    for line in mail.text.lines() {
        say(&format!("   | {line}\n"))?;
    }
    let link = mail.text.split_whitespace().find(|word| word.starts_with("http"));
    Ok(link.context("no link in the mail")?.to_owned())
}

fn expect_found(found: &Option<String>, expected: Option<&str>, meaning: &str) -> anyhow::Result<()> {
    ensure!(found.as_deref() == expected, "the lookup found {found:?}");
    say(&format!("   {meaning}\n"))
}
