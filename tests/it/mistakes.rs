//! The mistakes that operators make in a configuration, and what each message says.

use std::{fmt::Write, fs};

use bindery::config::{Config, load};

/// No message may show this.
const SECRET: &str = "hunter2";

/// A file, and variables.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

const MISTAKES: &[Case<'_>] = &[
    (
        "a section header that is still commented out",
        "[mail]\ntransport = \"smtp\"\n\n# The relay of the \"smtp\" transport.\n#[mail.smtp]\n\nhost = \"mail.example.org\"\npassword = \"hunter2\"\n",
        &[],
    ),
    ("... and no header at all", "host = \"mail.example.org\"\npassword = \"hunter2\"\n", &[]),
    (
        "... and a key of the sections above and below it",
        "[mail.smtp]\n#[sms.http]\ntimeout_seconds = 5\n",
        &[],
    ),
    ("... of a rate", "#[limits]\nvisit_per_ip = { burst = 1, per_hour = 1 }\n", &[]),
    ("a key of the top below a header", "[mail]\nserver_name = \"id.example.org\"\n", &[]),
    ("a key in another section", "[http]\nfrom = \"a@example.org\"\n", &[]),
    ("one underscore for two", "", &[("BINDERY_MAIL_FROM", "a@example.org")]),
    ("one underscore for two, the second time", "", &[("BINDERY_MAIL__SMTP_PASSWORD", "hunter2")]),
    ("an underscore for a point", "mail_from = \"a@example.org\"\n", &[]),
    ("hyphens", "server-name = \"id.example.org\"\n", &[]),
    ("a misspelt key", "[mail]\nform = \"a@example.org\"\n", &[]),
    ("a misspelt section", "[emial]\nfrom = \"a@example.org\"\n", &[]),
    ("a misspelt variable", "", &[("BINDERY_HTTP__LISTN", "127.0.0.1:80")]),
    ("a key of an earlier version", "[limits]\nlookup_per_ip = { burst = 1, per_hour = 1 }\n", &[]),
    ("a number for a rate", "[limits]\nregister_per_ip = 5\n", &[]),
    ("a text for a rate", "[limits]\nregister_per_ip = \"5/h\"\n", &[]),
    ("half a rate", "[limits]\nregister_per_ip = { burst = 5 }\n", &[]),
    ("nothing for a rate", "[limits]\nregister_per_ip = { burst = 0, per_hour = 5 }\n", &[]),
    ("a text for a list", "[homeservers]\nallow = \"example.org\"\n", &[]),
    ("a text for a list in a variable", "", &[("BINDERY_HOMESERVERS__ALLOW", "example.org")]),
    ("a number in a list", "[homeservers]\nallow = [\"example.org\", 5]\n", &[]),
    ("a list for a text", "[operator]\nname = [\"Example Society\"]\n", &[]),
    ("a text for a list of tables", "[operator]\nprocessors = \"Example Hosting\"\n", &[]),
    ("unquoted text", "server_name = id.example.org\n", &[]),
    ("an unquoted address", "[http]\nlisten = 127.0.0.1:8090\n", &[]),
    ("an unquoted password", "[mail.smtp]\npassword = hunter2\n", &[]),
    ("an unquoted path", "data_dir = /var/lib/bindery\n", &[]),
    ("an unquoted number of a language", "[mail]\ndefault_language = 1\n", &[]),
    ("typographic quotation marks", "server_name = “id.example.org”\n", &[]),
    ("... in a list", "[homeservers]\nallow = [\n    \"example.org\",\n    „example.net“,\n]\n", &[]),
    ("... around a password", "[mail.smtp]\npassword = ‘hunter2’\n", &[]),
    ("a quotation mark that is missing", "server_name = \"id.example.org\n", &[]),
    ("a colon", "server_name: \"id.example.org\"\n", &[]),
    ("no value", "server_name =\n", &[]),
    ("only a key", "server_name\n", &[]),
    ("a byte order mark and Windows line ends", "\u{feff}server_name = \"a\"\r\n[mail]\r\nform = 5\r\n", &[]),
    ("a tab at the start", "\tserver_name = id\n", &[]),
    ("a key twice", "[mail]\nfrom = \"a@example.org\"\n# For others.\nfrom = \"b@example.org\"\n", &[]),
    ("a password twice", "[mail.smtp]\npassword = \"hunter2\"\n#[sms.http]\npassword = \"hunter2\"\n", &[]),
    ("a section twice", "[mail]\nfrom = \"a@example.org\"\n[http]\n[mail]\ntransport = \"smtp\"\n", &[]),
    ("a section after its keys", "mail.from = \"a@example.org\"\n[mail]\ntransport = \"smtp\"\n", &[]),
    ("true for a number", "[mail.smtp]\nport = true\n", &[]),
    ("a text for a number", "[mail.smtp]\nport = \"465\"\n", &[]),
    ("a text for a number in a variable", "", &[("BINDERY_MAIL__SMTP__PORT", "smtps")]),
    ("a number with a point", "[mail.smtp]\nport = 46.5\n", &[]),
    ("a number that is too large", "[mail.smtp]\nport = 70000\n", &[]),
    ("a negative number", "[mail.smtp]\nport = -1\n", &[]),
    ("a number for a password", "[mail.smtp]\nusername = \"u\"\npassword = 5\n", &[]),
    ("yes", "[privacy]\nnotify_owners = yes\n", &[]),
    ("on", "[privacy]\nnotify_owners = on # or off\n", &[]),
    ("True", "[privacy]\nnotify_owners = True\n", &[]),
    ("yes in quotation marks", "[privacy]\nnotify_owners = \"yes\"\n", &[]),
    ("yes in a variable", "", &[("BINDERY_PRIVACY__NOTIFY_OWNERS", "yes")]),
    ("1 for true", "[privacy]\nnotify_owners = 1\n", &[]),
    ("a section that is a text", "mail = \"smtp\"\n", &[]),
    ("a word that is none of them", "[mail]\ntransport = \"sendmail\"\n", &[]),
    (
        "a URL with a slash at its end",
        "server_name = \"id.example.org\"\npublic_base_url = \"https://id.example.org/\"\n",
        &[],
    ),
    (
        "a URL without https://",
        "server_name = \"id.example.org\"\npublic_base_url = \"id.example.org\"\n",
        &[],
    ),
    ("only one of the names", "server_name = \"id.example.org\"\n", &[]),
    ("only one of the names, by a variable", "", &[("BINDERY_SERVER_NAME", "id.example.org")]),
    ("a path with ~", "data_dir = \"~/bindery\"\n", &[]),
    ("a path with $", "[mail.smtp]\nusername = \"u\"\npassword_file = \"$HOME/password\"\n", &[]),
    ("a URL for a server name", "server_name = \"https://id.example.org\"\n", &[]),
    ("a Matrix ID for a server name", "[homeservers]\nallow = [\"@alice:example.org:8448\"]\n", &[]),
    ("a URL for a homeserver", "[homeservers]\nallow = [\"https://matrix.example.org/\"]\n", &[]),
    ("an address for a server name", "[homeservers]\nallow = [\"alice@example.org\"]\n", &[]),
    ("a wildcard", "[homeservers]\nallow = [\"*.example.org\"]\n", &[]),
    ("a network that is none", "[http]\ntrusted_proxies = [\"10.0.0.0/33\"]\n", &[]),
];

fn message(text: &str, variables: &[(&str, &str)]) -> String {
    let dir = tempfile::TempDir::new().expect("a directory");
    let file = dir.path().join("bindery.toml");
    fs::write(&file, text).expect("written");
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    // A case of variables alone has no file.
    let file = (!text.is_empty()).then_some(&*file);
    let said = match load(file, variables) {
        Err(error) => error.to_string(),
        Ok(config) => config
            .source
            .doubts
            .iter()
            .map(|doubt| format!("Warning: {doubt}"))
            .collect::<Vec<_>>()
            .join("\n"),
    };
    said.replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn each_mistake_is_named_with_its_place_and_with_what_to_write() {
    let mut all = String::new();
    for (name, text, variables) in MISTAKES {
        let said = message(text, variables);
        assert!(!said.is_empty(), "{name}: no message");
        assert!(!said.contains(SECRET), "{name}: {said}");
        for line in said.lines() {
            let is_placed =
                ["bindery.toml, line ", "bindery.toml: ", "BINDERY_", "no configuration file: ", "Warning: "];
            assert!(is_placed.iter().any(|place| line.starts_with(place)), "{name}: {line}");
        }
        let _ = writeln!(all, "# {name}\n{said}\n");
    }
    println!("if you mean the change, run INSTA_UPDATE=always cargo test --test it each_mistake");
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path("../data");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("mistakes", all));
}

#[test]
fn what_editors_on_windows_write_loads() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let file = dir.path().join("bindery.toml");
    fs::write(&file, "\u{feff}\tserver_name = \"id.example.org\"\r\npublic_base_url = \"https://id.example.org\"\r\n[mail]\r\nfrom\t= \"a@example.org\"\r\n").expect("written");
    let config: Config = load(Some(&file), std::iter::empty()).expect("good");
    assert_eq!((config.server_name.as_str(), config.mail.from.as_str()), ("id.example.org", "a@example.org"));
    let utf_16: Vec<u8> = "server_name = 'a'".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(&file, [&[0xff, 0xfe][..], &utf_16].concat()).expect("written");
    let said = load(Some(&file), std::iter::empty()).expect_err("another encoding").to_string();
    assert!(said.contains("bindery.toml is not UTF-8 text; save it as UTF-8"), "{said}");
}
