//! A validation session: a person proves that they own an address (specification, Identity Service API,
//! "Establishing associations").
//!
//! It is a state machine over values. Callers send the token and store the session.

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

/// A pending session ends after this many wrong tokens.
pub const MAX_WRONG_TOKENS: u8 = 5;

/// The length of the session IDs that Bindery makes: 16 bytes in base64.
const SID_CHARS: usize = 22;

/// The state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// No right token has been submitted yet.
    Pending,
    /// The right token was submitted at this time.
    Validated(Millis),
    /// The owner of the address pressed *Reject the request*.
    Withdrawn,
}

/// A validation session.
#[derive(Clone, Debug)]
pub struct Session {
    /// The address to validate.
    pub address: Address,
    /// The key of this session in the index, see [`Session::index_key`].
    pub index_key: [u8; 32],
    /// The account that requested the session; only this account may publish the address. `None` if a homeserver
    /// requested it for a person without an account.
    pub account: Option<UserId>,
    /// The hash of the secret that the client chose.
    pub client_secret: SecretHash,
    /// The hash of the last code for a phone number. The token of a mail is not stored, see
    /// [`Session::link_token`].
    pub code: Option<CodeHash>,
    /// The code before that, until the gateway accepts the message with the last one. If that message fails, the
    /// code that did arrive must stay valid.
    pub previous_code: Option<CodeHash>,
    /// The highest `send_attempt` whose message the relay or gateway accepted.
    pub delivered_attempt: Option<u64>,
    /// Where to redirect the person after they validate by link, if the operator allows this URL.
    pub next_link: Option<String>,
    /// The language of the client that requested the session.
    pub language: Language,
    /// When it was created or validated, whichever is later.
    pub modified: Millis,
    /// How many wrong tokens were submitted.
    pub wrong_tokens: u8,
    /// The state of the session.
    pub progress: Progress,
}

/// The result of submitting a token.
#[derive(Debug, PartialEq, Eq)]
pub enum Submission {
    /// Right for the first time; the session has changed.
    Validated,
    /// Right, but the session was validated already.
    AlreadyValidated,
    /// Wrong. The session counted it, and the caller must store the session before it answers.
    Wrong,
}

impl Session {
    /// A new, pending session; nothing has been sent yet.
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

    /// The index key: a keyed hash of the address and the client secret. It finds the session when a client
    /// requests another token.
    pub fn index_key(address: &Address, secret: &ClientSecret, key: &Key32) -> [u8; 32] {
        let parts = [address.medium().as_str(), address.as_str(), secret.as_str()];
        key.mac(&[b"session index", parts[0].as_bytes(), parts[1].as_bytes(), parts[2].as_bytes()])
    }

    /// The token in the mails of this session. It is a keyed hash, so every mail of the session has the same one
    /// and Bindery does not store it.
    pub fn link_token(sid: &Sid, key: &Key32) -> Token {
        let mac = key.mac(&[b"link token", sid.as_str().as_bytes()]);
        Token::short(std::array::from_fn(|at| mac[at]))
    }

    /// The session and its token as one word of 44 characters. The link in a mail ends with it: short, and without a
    /// sign that a mail encodes, so that it survives in a mail that is read without decoding.
    pub fn link_word(sid: &Sid, token: &Token) -> String {
        format!("{}{}", sid.as_str(), token.as_str())
    }

    /// Reads a [`Session::link_word`]; `None` if it is too short.
    pub fn parse_link_word(word: &str) -> Option<(Sid, Token)> {
        let (sid, token) = word.split_at_checked(SID_CHARS)?;
        Some((Sid::parse(sid)?, Token::parse(token)?))
    }

    /// Sets the code of the next message, before it is sent.
    pub fn next_code(&mut self, code: CodeHash) {
        let previous = self.code.replace(code);
        self.previous_code = self.previous_code.or(previous);
    }

    /// Records that the relay or gateway accepted the message of this attempt. After that only a higher attempt
    /// sends again, and only the last code is valid.
    pub fn delivered(&mut self, attempt: u64) {
        self.delivered_attempt = self.delivered_attempt.max(Some(attempt));
        self.previous_code = None;
    }

    /// The valid codes, the last first.
    pub fn codes(&self) -> impl Iterator<Item = CodeHash> {
        self.code.into_iter().chain(self.previous_code)
    }

    /// Whether 24 hours have passed since the last change. If a wrong clock dated the change, its age is unknown, and
    /// the session has expired, too.
    pub fn is_expired(&self, now: Millis) -> bool {
        now >= self.modified.after(SESSION) || self.modified.is_ahead_of(now)
    }

    /// Whether the session can no longer be used: it has expired, had too many wrong tokens, or was withdrawn.
    pub fn is_over(&self, now: Millis) -> bool {
        self.is_expired(now) || self.is_exhausted() || self.progress == Progress::Withdrawn
    }

    /// Whether no further token is checked. A session that was validated before stays so.
    pub fn is_out_of_tries(&self) -> bool {
        self.wrong_tokens >= MAX_WRONG_TOKENS
    }

    fn is_exhausted(&self) -> bool {
        self.progress == Progress::Pending && self.is_out_of_tries()
    }

    /// Checks that `secret` is the one that the client chose.
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
    /// `SessionExpired` if the session [is over](Self::is_over), `SessionNotValidated` while it is pending.
    pub fn validated_at(&self, now: Millis) -> Result<Millis, Refusal> {
        match self.progress {
            _ if self.is_over(now) => Err(Refusal::SessionExpired),
            Progress::Validated(at) => Ok(at),
            Progress::Pending | Progress::Withdrawn => Err(Refusal::SessionNotValidated),
        }
    }

    /// Records a submitted token that is right or wrong.
    ///
    /// # Errors
    /// `SessionExpired` if the session [is over](Self::is_over); then nothing changes.
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

    /// Ends the session because the owner of the address did not request it. `false` if it was over already.
    pub fn withdraw(&mut self, now: Millis) -> bool {
        let open = !self.is_over(now);
        if open {
            self.progress = Progress::Withdrawn;
        }
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_in_a_link_is_read_as_it_was_made() {
        let sid = Sid::from_random([7; 16]);
        let token = Session::link_token(&sid, &Key32::new([1; 32]));
        let word = Session::link_word(&sid, &token);
        assert_eq!((word.len(), Session::parse_link_word(&word)), (44, Some((sid, token))));
        for wrong in
            ["", "x", &word[..22], "é", &format!("{}é", &word[..21]), &word.replace(&word[..1], "=é")]
        {
            assert_eq!(Session::parse_link_word(wrong), None, "{wrong}");
        }
    }
}
