//! A validation session: somebody proving that an address is theirs (specification, Identity
//! Service API, "Establishing associations").
//!
//! A state machine over values. It neither sends the token nor stores itself.

use serde::{Deserialize, Serialize};

use super::{
    code::CodeHash,
    ids::{ClientSecret, Sid, Token, UserId},
    language::Language,
    refusal::Refusal,
    retention::SESSION,
    secret::{Key32, SecretHash},
    threepid::Address,
    time::Millis,
};

/// After so many wrong tokens a session is dead.
pub const MAX_WRONG_TOKENS: u8 = 5;

/// What has happened in a session so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// Waiting for the token.
    Pending,
    /// The token came back at this time.
    Validated(Millis),
    /// The owner of the address said that it was not them.
    Withdrawn,
}

/// A validation session.
#[derive(Clone, Debug)]
pub struct Session {
    /// What is being validated.
    pub address: Address,
    /// The key under which address and client secret find this session, see
    /// [`Session::index_key`].
    pub index_key: [u8; 32],
    /// The account that asked; only that account may publish the address. `None` when a
    /// homeserver asked on behalf of somebody who has no account yet.
    pub account: Option<UserId>,
    /// The hash of the secret that the client chose.
    pub client_secret: SecretHash,
    /// The code that was sent last to a telephone number, if one was. What a mail carries is not
    /// stored, see [`Session::link_token`].
    pub code: Option<CodeHash>,
    /// The code before that one, for as long as the gateway has not said that it has the last: a
    /// message that does not leave must not spoil the one that arrived.
    pub previous_code: Option<CodeHash>,
    /// The greatest `send_attempt` whose message was accepted for delivery.
    pub delivered_attempt: Option<u64>,
    /// Where to send the person after validating by link, if the operator allows it.
    pub next_link: Option<String>,
    /// The language that the person who asked reads.
    pub language: Language,
    /// When it was created or validated, whichever is later.
    pub modified: Millis,
    /// How many wrong tokens were presented.
    pub wrong_tokens: u8,
    /// How far it has come.
    pub progress: Progress,
}

/// The answer to a token that was presented.
#[derive(Debug, PartialEq, Eq)]
pub enum Submission {
    /// Right, for the first time: the session changed.
    Validated,
    /// Right, as it was before.
    AlreadyValidated,
    /// Wrong; the session counted it and must be stored before saying so.
    Wrong,
}

impl Session {
    /// A new session, pending, with nothing sent yet.
    pub fn new(
        address: Address,
        secret: &ClientSecret,
        account: Option<UserId>,
        language: Language,
        key: &Key32,
        now: Millis,
    ) -> Self {
        Self {
            index_key: Self::index_key(&address, secret, key),
            address,
            account,
            client_secret: SecretHash::of(secret.as_str()),
            code: None,
            previous_code: None,
            delivered_attempt: None,
            next_link: None,
            language,
            modified: now,
            wrong_tokens: 0,
            progress: Progress::Pending,
        }
    }

    /// The key under which one address and client secret find their session.
    pub fn index_key(address: &Address, secret: &ClientSecret, key: &Key32) -> [u8; 32] {
        let parts = [address.medium().as_str(), address.as_str(), secret.as_str()];
        key.mac(&[b"session index", parts[0].as_bytes(), parts[1].as_bytes(), parts[2].as_bytes()])
    }

    /// The token that a mail of this session carries: a keyed hash, so that it is the same in
    /// every mail of the session and stored nowhere.
    pub fn link_token(sid: &Sid, key: &Key32) -> Token {
        Token::from_bytes(key.mac(&[b"link token", sid.as_str().as_bytes()]))
    }

    /// Takes the code of a message that is about to be sent.
    pub fn next_code(&mut self, code: CodeHash) {
        let previous = self.code.replace(code);
        self.previous_code = self.previous_code.or(previous);
    }

    /// The message of this attempt has left: only a greater one sends again, and no code but its
    /// own is good.
    pub fn delivered(&mut self, attempt: u64) {
        self.delivered_attempt = self.delivered_attempt.max(Some(attempt));
        self.previous_code = None;
    }

    /// The codes that are good, the last first.
    pub fn codes(&self) -> impl Iterator<Item = CodeHash> {
        self.code.into_iter().chain(self.previous_code)
    }

    /// Whether 24 hours have gone by since the last change.
    pub fn is_expired(&self, now: Millis) -> bool {
        now >= self.modified.after(SESSION)
    }

    /// Whether nothing can come of it any more.
    pub fn is_over(&self, now: Millis) -> bool {
        self.is_expired(now) || self.is_exhausted() || self.progress == Progress::Withdrawn
    }

    fn is_exhausted(&self) -> bool {
        self.progress == Progress::Pending && self.wrong_tokens >= MAX_WRONG_TOKENS
    }

    /// Whether `secret` is the one the client chose.
    pub fn check_secret(&self, secret: &ClientSecret) -> Result<(), Refusal> {
        if SecretHash::of(secret.as_str()) == self.client_secret {
            Ok(())
        } else {
            Err(Refusal::NoValidSession)
        }
    }

    /// When the address was validated.
    ///
    /// # Errors
    /// `SessionExpired` once the session is over, `SessionNotValidated` while it is pending.
    pub fn validated_at(&self, now: Millis) -> Result<Millis, Refusal> {
        match self.progress {
            _ if self.is_over(now) => Err(Refusal::SessionExpired),
            Progress::Validated(at) => Ok(at),
            Progress::Pending | Progress::Withdrawn => Err(Refusal::SessionNotValidated),
        }
    }

    /// Takes a presented token, which is right or wrong.
    ///
    /// # Errors
    /// `SessionExpired` once the session is over; nothing has changed then.
    pub fn submit(&mut self, is_right: bool, now: Millis) -> Result<Submission, Refusal> {
        if self.is_over(now) {
            return Err(Refusal::SessionExpired);
        }
        if !is_right {
            self.wrong_tokens = self.wrong_tokens.saturating_add(1);
            return Ok(Submission::Wrong);
        }
        if self.progress != Progress::Pending {
            return Ok(Submission::AlreadyValidated);
        }
        self.progress = Progress::Validated(now);
        self.modified = now;
        Ok(Submission::Validated)
    }

    /// Ends the session because the owner of the address did not ask for it. `false` if it was
    /// over already.
    pub fn withdraw(&mut self, now: Millis) -> bool {
        let open = !self.is_over(now);
        if open {
            self.progress = Progress::Withdrawn;
        }
        open
    }
}
