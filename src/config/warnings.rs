//! Settings that work and that an operator should look at again. `config check` prints them, `serve` logs them.

use std::net::IpAddr;

use super::{Config, MailTransport, SmsTransport, SmtpSecurity, example::SET};

impl Config {
    /// One sentence for each setting that is fine for a try and not for real people.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.source.doubts.clone();
        let host = self.public_base_url.strip_prefix("http://");
        if let Some(host) =
            host.filter(|host| !is_this_machine(host.rsplit_once(':').map_or(*host, |(host, _)| host)))
        {
            warnings.push(format!(
                "public_base_url is http://{host}: homeservers and clients demand https, and links in mails can be read on their way"
            ));
        }
        if self.mail.transport == MailTransport::Directory {
            warnings.push(format!(
                "mails are written into files in {} and not sent: set mail.transport = \"smtp\" to send them",
                self.mail_directory().display()
            ));
        }
        let smtp = &self.mail.smtp;
        if self.mail.transport == MailTransport::Smtp
            && smtp.security == SmtpSecurity::None
            && !is_this_machine(&smtp.host)
        {
            warnings.push(format!(
                "mail.smtp.security is \"none\": mails, with their links, travel to {} in the clear; set \"tls\" or \"starttls\"",
                smtp.host
            ));
        }
        if self.sms.gateway == SmsTransport::Directory {
            warnings.push(format!(
                "text messages are written into files in {} and not sent: set sms.gateway to send them (docs/sms.md)",
                self.sms_directory().display()
            ));
        }
        if self.delegates_to_a_proxy() {
            warnings.push(
                "delegation.allowed_networks contains the address of a trusted proxy: make sure that the proxy sets X-Forwarded-For, otherwise anyone can have messages sent".to_owned(),
            );
        }
        for (key, value) in self.still_examples() {
            warnings.push(format!("{key} is still '{value}' from the example: write your own"));
        }
        for key in self.operator.unsaid() {
            warnings.push(format!(
                "{key} is empty: set it, otherwise the privacy notice says that the operator did not give it"
            ));
        }
        warnings
    }

    /// The keys that still have the value of `bindery config example`.
    fn still_examples(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let value = |key| match key {
            "server_name" => Some(&self.server_name),
            "public_base_url" => Some(&self.public_base_url),
            "mail.from" => Some(&self.mail.from),
            "mail.smtp.host" => Some(&self.mail.smtp.host),
            "operator.name" => Some(&self.operator.name),
            "operator.contact" => Some(&self.operator.contact),
            _ => None,
        };
        SET.into_iter().filter(move |(key, example)| value(key).is_some_and(|value| value == example))
    }
}

fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}
