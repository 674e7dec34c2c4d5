//! The configuration that `bindery init` writes: the answers, each with a sentence, and what an operator looks for next.

use std::path::Path;

use toml::Value;

use super::{Logging, answers::Answers};
use crate::config::SmtpSecurity;

/// The text of the file.
pub fn configuration(answers: &Answers, data_dir: &Path, password_file: Option<&Path>) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let path = |path: &Path| quoted(&path.to_string_lossy());
    let homeservers = match answers.homeservers.as_slice() {
        [] => "# Users of every homeserver may use this server. To change that: allow = [\"example.org\"]"
            .to_owned(),
        names => format!("# Only their users may use this server.\nallow = {}", Value::from(names.to_vec())),
    };
    let security = match answers.relay_security {
        SmtpSecurity::Tls => "tls",
        SmtpSecurity::Starttls => "starttls",
        SmtpSecurity::None => "none",
    };
    let login = match (&answers.relay_user, password_file) {
        (Some(user), Some(file)) => format!("username = {}\npassword_file = {}\n", quoted(user), path(file)),
        _ => "# The relay wants no login.\n".to_owned(),
    };
    let logging = match answers.logging {
        Logging::Full => "# The logs of lookups and callers are kept for as long as the policy allows.\n",
        Logging::Sparse => {
            "# What the lookup log holds: \"full\", \"summary\" or \"off\"; and for how many days each log is kept.\nlookup_log = \"summary\"\nlookup_log_days = 1\naccess_log_days = 7\nconnection_log_days = 7\n"
        }
    };
    format!(
        r#"# The configuration of Bindery, made by `bindery init`. Every other key: `bindery config example`.
# After a change: `bindery config check`.

# What this server signs with and what homeservers call it. Do not change it later.
server_name = {server_name}
# Links in mails begin with it.
public_base_url = {public_url}
data_dir = {data_dir}

[homeservers]
{homeservers}

[mail]
transport = "smtp"
# The name beside this address is operator.name.
from = {from}

[mail.smtp]
host = {host}
port = {port}
security = {security}
{login}
# The privacy notice names the operator; people accept it before they use this server.
[operator]
name = {name}
postal_address = {address}
contact = {contact}
# The data protection authority that people may complain to.
#authority = ""
#authority_url = ""
# Companies that process data for you, such as the hoster and the mail relay.
#processors = [{{ name = "Example Hosting", purpose = "hosts this server", url = "https://hosting.example/privacy", country = "Sweden" }}]

[privacy]
{logging}"#,
        server_name = quoted(&answers.server_name),
        public_url = quoted(&answers.public_url),
        data_dir = path(data_dir),
        from = quoted(&answers.mail_from),
        host = quoted(&answers.relay_host),
        port = answers.relay_port,
        security = quoted(security),
        name = quoted(&answers.operator_name),
        address = quoted(&answers.operator_address),
        contact = quoted(&answers.operator_contact),
    )
}
