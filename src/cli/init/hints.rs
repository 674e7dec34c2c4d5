//! What `bindery init` says at its end: the settings of the proxy, the homeserver and the apps, and the next commands.

use std::path::Path;

use super::{answers::Answers, files::Owner};
use crate::config;

/// The text.
pub fn after(answers: &Answers, output: &Path, owner: &Owner) -> String {
    let Answers { server_name, public_url, .. } = answers;
    let host = server_name.split(':').next().unwrap_or(server_name);
    let homeserver = answers.homeservers.first().map_or("example.org", String::as_str);
    let is_system = output == Path::new(config::DEFAULT_FILE);
    let named = if is_system { String::new() } else { format!(" --config {}", output.display()) };
    let start = match (is_system, owner) {
        (true, Owner::User { .. }) => "systemctl enable --now bindery".to_owned(),
        _ => format!("bindery serve{named}"),
    };
    format!(
        r#"{output} is written.

1. The reverse proxy. Caddy:

{host} {{
	reverse_proxy 127.0.0.1:8090
}}

   nginx, in a server block with TLS for {host} and without an access log:

    location / {{
        proxy_pass http://127.0.0.1:8090;
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}

2. The apps, in https://{homeserver}/.well-known/matrix/client:

    "m.identity_server": {{ "base_url": "{public_url}" }}

   The same goes into default_server_config in Element Web's config.json.

3. Synapse, in homeserver.yaml:

    default_identity_server: {public_url}

4. The server:

    bindery config check{named}
    {start}

docs/homeserver.md says more about 2 and 3. What people will accept: {public_url}/privacy
"#,
        output = output.display(),
    )
}
