//! Why the relay did not accept a mail, and whom that concerns: this mail, or all.

use std::{error::Error as _, io};

use lettre::transport::smtp::Error;

/// Why the relay did not accept a mail.
pub enum RelayError {
    /// For half of the timeout, other mails used all connections, or all that mails to this domain may use.
    NoFreeConnection,
    /// There was no connection before the timeout, or connecting failed.
    NoConnection(Option<ConnectError>),
    /// The relay did not answer before the timeout.
    Timeout(Stage),
    /// The relay does not offer an SMTP extension that the mail needs.
    NotOffered(&'static str),
    /// The relay refused the mail at this stage, or the connection broke.
    Smtp(Stage, Error),
    /// The relay's answer at this stage fits another command.
    OutOfStep(Stage),
}

/// The command of a mail that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `MAIL FROM`
    Sender,
    /// `RCPT TO`
    Recipient,
    /// `DATA` and the message.
    Message,
}

/// Why there is no connection.
pub enum ConnectError {
    /// TCP or TLS failed.
    Io(io::Error),
    /// The relay refused EHLO or the login, or its answer is not SMTP.
    Smtp(Error),
    /// The relay does not offer what the configuration demands.
    NotOffered(&'static str),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for ConnectError {
    fn from(error: Error) -> Self {
        Self::Smtp(error)
    }
}

impl RelayError {
    /// Whether every retry would fail too: the mail needs an extension that the relay does not offer, or the relay
    /// says that there is no such mailbox. Other refusals, by quota or policy, are about the sender or may end.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::NotOffered(_) => true,
            Self::Smtp(Stage::Recipient | Stage::Message, error) if error.is_permanent() => {
                match enhanced_status(error) {
                    // RFC 3463 section 3.2; 7 and 8 are about the sender.
                    Some((class, subject, detail)) => class == 5 && subject == 1 && ![7, 8].contains(&detail),
                    // RFC 5321 section 4.2.2. After the whole message, these may be about anything.
                    None => matches!(self, Self::Smtp(Stage::Recipient, _)) && names_the_mailbox(error),
                }
            }
            _ => false,
        }
    }

    /// Whether the relay gave an answer to the mail that can be understood.
    pub fn is_answered(&self) -> bool {
        match self {
            Self::NoFreeConnection | Self::NoConnection(_) | Self::Timeout(_) | Self::OutOfStep(_) => false,
            Self::NotOffered(_) => true,
            Self::Smtp(_, error) => error.status().is_some(),
        }
    }

    /// Whether the relay had accepted the recipient before.
    pub fn is_after_recipient(&self) -> bool {
        matches!(
            self,
            Self::Timeout(Stage::Message) | Self::Smtp(Stage::Message, _) | Self::OutOfStep(Stage::Message)
        )
    }

    /// The status that the relay answered with, if it did.
    pub fn status(&self) -> Option<String> {
        match self {
            Self::NoConnection(Some(ConnectError::Smtp(error))) | Self::Smtp(_, error) => {
                error.status().map(|code| code.to_string())
            }
            Self::NoFreeConnection
            | Self::NoConnection(_)
            | Self::Timeout(_)
            | Self::NotOffered(_)
            | Self::OutOfStep(_) => None,
        }
    }

    /// What happened, for the log. It leaves out the relay's own text, which may quote an address.
    pub fn reason(&self) -> String {
        match self {
            Self::NotOffered(extension) => {
                format!("the mail needs {extension}, which the relay does not offer")
            }
            Self::NoConnection(Some(ConnectError::NotOffered(what))) => {
                format!("the relay does not offer {what}; check mail.smtp.security and mail.smtp.port")
            }
            Self::NoFreeConnection => {
                "no connection to the relay was free for half of mail.smtp.timeout_seconds; if this goes on, raise mail.smtp.max_connections"
                    .to_owned()
            }
            Self::OutOfStep(_) => {
                "the relay's answer does not fit the command; check that mail.smtp.host and mail.smtp.port are those of a mail relay".to_owned()
            }
            Self::Timeout(Stage::Message) => {
                "the relay did not say in time whether it accepts the message; check its log".to_owned()
            }
            Self::NoConnection(None) | Self::Timeout(_) => {
                "the relay did not answer before mail.smtp.timeout_seconds".to_owned()
            }
            Self::NoConnection(Some(ConnectError::Io(error))) => match tls_problem(error) {
                Some(problem) => {
                    format!(
                        "TLS to the relay failed: {problem}; check mail.smtp.host and mail.smtp.extra_ca_file"
                    )
                }
                None => format!("the relay cannot be reached: {error}; check mail.smtp.host and mail.smtp.port"),
            },
            Self::NoConnection(Some(ConnectError::Smtp(error))) => match refusal(error) {
                Some(Refusal::Permanent) => {
                    "the relay refused EHLO or the login; check mail.smtp.username and the password".to_owned()
                }
                Some(Refusal::Transient) => "the relay refused EHLO or the login for now".to_owned(),
                None => format!("{}; check mail.smtp.host and mail.smtp.port", no_reply(error)),
            },
            Self::Smtp(_, error) => match refusal(error) {
                Some(Refusal::Permanent) => "the relay refused the mail".to_owned(),
                Some(Refusal::Transient) => "the relay refused the mail for now".to_owned(),
                None => no_reply(error).to_owned(),
            },
        }
    }
}

/// What the code of a reply says.
enum Refusal {
    Permanent,
    Transient,
}

fn refusal(error: &Error) -> Option<Refusal> {
    if error.is_permanent() {
        Some(Refusal::Permanent)
    } else {
        error.is_transient().then_some(Refusal::Transient)
    }
}

/// Why there is no reply with a code.
fn no_reply(error: &Error) -> &'static str {
    if error.is_response() { "the relay's answer is not SMTP" } else { "the connection to the relay broke" }
}

fn names_the_mailbox(error: &Error) -> bool {
    error.status().is_some_and(|code| [550, 551, 553].contains(&u16::from(code)))
}

/// The enhanced status (RFC 2034) at the start of an answer.
fn enhanced_status(error: &Error) -> Option<(u16, u16, u16)> {
    let answer = error.source()?.to_string();
    let mut numbers = answer.split(' ').next()?.splitn(3, '.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

fn tls_problem(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_why_there_is_no_connection_and_what_to_check() {
        let reason = |error: ConnectError| RelayError::NoConnection(Some(error)).reason();
        assert_eq!(
            reason(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
            "the relay cannot be reached: connection refused; check mail.smtp.host and mail.smtp.port"
        );
        assert_eq!(
            reason(io::Error::other(rustls::Error::DecryptError).into()),
            "TLS to the relay failed: cannot decrypt peer's message; check mail.smtp.host and mail.smtp.extra_ca_file"
        );
        assert_eq!(
            reason(ConnectError::NotOffered("STARTTLS")),
            "the relay does not offer STARTTLS; check mail.smtp.security and mail.smtp.port"
        );
    }
}
