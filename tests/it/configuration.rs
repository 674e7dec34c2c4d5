//! The configuration: files and the environment, error messages, and `bindery config example`.

use std::io::Write;

use bindery::config::{Config, MailTransport, SmtpSecurity, Source, example, load};

fn load_text(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let loaded = load(Some(file.path()), environment).map_err(|error| error.to_string());
    loaded.map(|config| Config { source: Source { file: None, ..config.source.clone() }, ..config })
}

#[test]
fn nothing_at_all_is_a_configuration_for_trying_out() {
    let config = load(None, std::iter::empty()).expect("the defaults are good");
    assert_eq!(config, Config::default());
    assert_eq!(config.server_name, "localhost:8090");
    assert_eq!(config.http.listen, ["127.0.0.1:8090"]);
    assert_eq!(config.data_dir.to_str(), Some("./bindery-data"));
    assert_eq!(config.mail.transport, MailTransport::Directory);
}

#[test]
fn the_example_begins_with_what_an_operator_must_set_and_ends_with_the_limits() {
    let text = example();
    let keys: Vec<&str> =
        text.lines().filter(|line| !line.starts_with(['#', '[']) && !line.is_empty()).collect();
    assert_eq!(
        keys,
        [
            "server_name = \"id.example.org\"",
            "public_base_url = \"https://id.example.org\"",
            "data_dir = \"/var/lib/bindery\"",
            "transport = \"smtp\"",
            "from = \"noreply@example.org\"",
            "host = \"mail.example.org\"",
            "name = \"Example Society\"",
            "contact = \"privacy@example.org\"",
        ]
    );
    let position = |part: &str| text.find(part).unwrap_or_else(|| panic!("no {part}"));
    let order = ["\n[operator]", "\n#allow = ", "\n[sms.http]", "\n#[terms.", "\n[limits]"].map(position);
    assert!(order.is_sorted(), "{order:?}");
    assert!(!text[position("\n[limits]") + 2..].contains("\n["), "nothing comes after the limits");
    // What stands there is an example, and the warnings say so until it is changed.
    let warnings = load_text(&text, &[]).expect("the example loads").warnings();
    let of_example = warnings.iter().filter(|warning| warning.contains("from the example: write your own"));
    assert_eq!(of_example.count(), 6, "{warnings:?}");
}

#[test]
fn the_example_has_every_key_and_its_default() {
    let text = example();
    let mut expected = Config {
        server_name: "id.example.org".to_owned(),
        public_base_url: "https://id.example.org".to_owned(),
        data_dir: "/var/lib/bindery".into(),
        ..Config::default()
    };
    expected.mail.transport = MailTransport::Smtp;
    expected.mail.from = "noreply@example.org".to_owned();
    expected.mail.smtp.host = "mail.example.org".to_owned();
    expected.operator.name = "Example Society".to_owned();
    expected.operator.contact = "privacy@example.org".to_owned();
    assert_eq!(load_text(&text, &[]).expect("the example loads"), expected);
    let uncommented: String = text
        .lines()
        .filter(|line| !line.starts_with("# "))
        .map(|line| line.strip_prefix('#').unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut config = load_text(&uncommented, &[]).expect("the example without '#' loads");
    assert_eq!(config.terms.len(), 1, "the example shows a document");
    config.terms.clear();
    expected.terms.clear();
    assert_eq!(config, expected);
    for line in text.lines().filter(|line| line.starts_with("# ")) {
        assert!(line.len() > 12, "every key has a sentence: {line}");
    }
    // The example must have every key. The defaults name the keys; those without a default are listed here.
    let defaults = toml::Table::try_from(Config::default()).expect("a table");
    let mut keys =
        vec!["extra_ca_file", "directory", "username", "password", "password_file", "templates_dir"];
    fn collect<'a>(table: &'a toml::Table, keys: &mut Vec<&'a str>) {
        for (key, value) in table {
            match value {
                toml::Value::Table(inner) if !inner.contains_key("per_hour") => collect(inner, keys),
                _ => keys.push(key),
            }
        }
    }
    collect(&defaults, &mut keys);
    for key in keys {
        let lines = [format!("\n#{key} = "), format!("\n{key} = ")];
        assert!(lines.iter().any(|line| text.contains(line)), "{key} is missing");
    }
}

#[test]
fn the_example_shows_how_a_processor_is_named() {
    let text = example();
    let shown =
        text.split("like { name").nth(1).and_then(|rest| rest.split(" }.").next()).expect("an example");
    let config = load_text(&format!("operator.processors = [{{ name{shown} }}]"), &[]).expect("good");
    assert_eq!(config.operator.processors[0].purpose, "hosts this server");
    let facts = config.notice().facts;
    let processor = facts.processors.first().expect("it is a fact of the notice");
    assert!(processor.url.starts_with("https://") && processor.country == "Sweden");
}

#[test]
fn the_notice_knows_every_fact_about_the_operator_and_none_that_is_empty() {
    let operator = "operator.data_protection_officer = 'Dora, dpo@example.org'
        operator.eu_representative = 'Rep, 1 Road, Paris'
        operator.imprint_url = 'https://example.org/imprint'
        operator.processors = [{ name = 'a', purpose = 'b', url = 'https://c', country = 'Sweden' }]";
    let config = load_text(operator, &[]).expect("good");
    let notice = serde_json::to_value(config.notice()).expect("values");
    let controller = &notice["facts"]["controller"];
    assert_eq!(controller["data_protection_officer"], "Dora, dpo@example.org");
    assert_eq!(controller["eu_representative"], "Rep, 1 Road, Paris");
    assert_eq!(controller["imprint_url"], "https://example.org/imprint");
    assert_eq!(notice["facts"]["processors"][0]["country"], "Sweden");

    let without = "operator.processors = [{ name = 'a', purpose = 'b', url = 'https://c' }]";
    let notice = serde_json::to_value(load_text(without, &[]).expect("good").notice()).expect("values");
    // A template that reads a variable which is not there does not render.
    for key in ["data_protection_officer", "eu_representative", "imprint_url"] {
        assert_eq!(notice["facts"]["controller"][key], "", "{key}");
    }
    assert_eq!(notice["facts"]["processors"][0]["country"], "");
}

#[test]
fn the_configuration_of_the_readme_is_one() {
    let readme = include_str!("../../README.md");
    let block = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let config = load_text(block, &[]).expect("good");
    assert!(config.operator.unsaid().is_empty() && config.terms.is_empty());
}

#[test]
fn the_environment_goes_over_the_file() {
    let environment = [
        ("BINDERY_SERVER_NAME", "id.example.org"),
        ("BINDERY_PUBLIC_BASE_URL", "https://id.example.org"),
        ("BINDERY_HTTP__LISTEN", "[\"127.0.0.1:1\", \"[::1]:2\"]"),
        ("BINDERY_MAIL__SMTP__PORT", "25"),
        ("BINDERY_MAIL__SMTP__SECURITY", "none"),
        ("BINDERY_MAIL__SMTP__USERNAME", "12345678"),
        ("BINDERY_MAIL__SMTP__PASSWORD", "it's = \"secret\""),
        ("BINDERY_CONFIG", "elsewhere"),
        ("OTHER", "x"),
    ];
    let config = load_text("server_name = 'a.example'\n[mail.smtp]\nport = 1", &environment).expect("good");
    assert_eq!(config.server_name, "id.example.org");
    assert_eq!(config.http.listen, ["127.0.0.1:1", "[::1]:2"]);
    assert_eq!((config.mail.smtp.port, config.mail.smtp.security), (25, SmtpSecurity::None));
    assert_eq!(
        config.mail.smtp.password.as_ref().map(|password| password.0.as_str()),
        Some("it's = \"secret\"")
    );
    assert!(!format!("{config:?}").contains("secret"), "a password is never printed");
    assert_eq!(config.mail.smtp.username.as_deref(), Some("12345678"), "a text that looks like a number");
}

#[test]
fn unknown_keys_name_the_nearest() {
    for (text, expected) in [
        ("servr_name = 'a'", "servr_name: there is no such configuration key; did you mean 'server_name'?"),
        (
            "[http]\nlisten_on = []",
            "http.listen_on: there is no such configuration key; did you mean 'http.listen'?",
        ),
        (
            "[mail.smtp]\nusernam = 'x'",
            "mail.smtp.usernam: there is no such configuration key; did you mean 'mail.smtp.username'?",
        ),
        (
            "[limits]\nsign_per_ip = { burts = 1, per_hour = 1 }",
            "limits.sign_per_ip.burts: there is no such configuration key; did you mean",
        ),
        (
            "[terms.tos]\nversoin = '1'",
            "terms.tos.versoin: there is no such configuration key; did you mean 'terms.tos.version'?",
        ),
        ("[emial]\nx = 1", "did you mean 'mail'?"),
    ] {
        let error = load_text(text, &[]).expect_err(text);
        assert!(error.contains(expected), "{error}");
    }
    let error = load_text("", &[("BINDERY_HTTP__LISTN", "x")]).expect_err("unknown");
    assert!(error.starts_with("BINDERY_HTTP__LISTN: http.listn: "), "{error}");
    assert!(error.contains("did you mean 'http.listen'?"), "{error}");
    let error = load_text("", &[("BINDERY_HTTP__WORKERS", "many")]).expect_err("no number");
    assert!(error.starts_with("BINDERY_HTTP__WORKERS: http.workers: "), "{error}");
    let error = load_text("", &[("BINDERY_LOG__LEVEL", "inof")]).expect_err("no level");
    assert!(error.starts_with("BINDERY_LOG__LEVEL: log.level: 'inof' is not a level"), "{error}");
}

#[test]
fn variables_of_others_are_named_and_ignored() {
    let others =
        [("BINDERY_SERVICE_HOST", "10.0.0.1"), ("BINDERY_PORT", "tcp://10.0.0.1:80"), ("BINDERY_BIN", "x")];
    let config = load_text("", &others).expect("good");
    let warnings = config.warnings();
    for (name, _) in others {
        assert!(warnings.iter().any(|warning| warning.contains(name)), "{name}: {warnings:?}");
    }
    let error = load_text("", &[("BINDERY_MAIL__FORM", "a@b.test")]).expect_err("a misspelt key");
    assert!(error.contains("BINDERY_MAIL__FORM") && error.contains("did you mean 'mail.from'?"), "{error}");
}

#[test]
fn what_works_badly_is_a_warning() {
    for (text, expected) in [
        (
            "mail.transport = 'smtp'\nmail.smtp = { host = 'mail.example.org', security = 'none' }",
            "in the clear",
        ),
        ("server_name = 'id.example.org'\npublic_base_url = 'http://id.example.org'", "demand https"),
        ("mail.transport = 'directory'", "written into files"),
        ("sms = { gateway = 'directory', countries = ['GB'] }", "text messages are written into files"),
        ("operator.name = ''", "operator.name is empty"),
    ] {
        let warnings = load_text(text, &[]).expect("good").warnings();
        assert!(warnings.iter().any(|warning| warning.contains(expected)), "{text}: {warnings:?}");
    }
    let text = "mail.transport = 'smtp'\nmail.smtp = { host = '127.0.0.1', security = 'none' }\npublic_base_url = 'http://localhost:8090'";
    let warnings = load_text(&format!("{text}\n[operator]\nname = 'A'"), &[]).expect("good").warnings();
    assert!(
        !warnings.iter().any(|warning| warning.contains("clear") || warning.contains("https")),
        "{warnings:?}"
    );
}

#[test]
fn values_that_cannot_be_are_refused_with_their_key() {
    for (text, expected) in [
        ("server_name = 'https://id.example.org'", "server_name"),
        ("server_name = ''", "server_name"),
        (
            "[privacy]\ndeleted_binding_days = 2",
            "deleted_binding_days: 2 is not between 3 and 30; the policy says",
        ),
        ("[privacy]\nlookup_log_days = 8", "privacy.lookup_log_days: 8 is not between 1 and 7"),
        ("[privacy]\naccess_log_days = 61", "privacy.access_log_days: 61 is not between 1 and 60"),
        ("[privacy]\nconnection_log_days = 181", "privacy.connection_log_days: 181 is not between 1 and 180"),
        ("[privacy]\nidle_account_days = 366", "privacy.idle_account_days: 366 is not between 1 and 365"),
        ("[invites]\nexpire_days = 366", "invites.expire_days: 366 is not between 1 and 365"),
        ("[invites]\nshow_characters = 60", "invites.show_characters: 60 is more than 3"),
        ("[lookup]\npepper_rotation_days = 366", "lookup.pepper_rotation_days: 366 is not between 1 and 365"),
        ("aliases = ['a b']", "aliases"),
        ("public_base_url = 'id.example.org'", "public_base_url"),
        ("public_base_url = 'https://id.example.org/'", "public_base_url"),
        ("public_base_url = 'https://localhost:8090/id'", "public_base_url"),
        ("public_base_url = 'https://id.example.org'", "server_name or one of aliases"),
        ("server_name = 'id.example.org'", "server_name or one of aliases"),
        (
            "mail.smtp = { security = 'none', host = 'a.example', username = 'u', password = 'p' }",
            "in the clear",
        ),
        (
            "[terms.t]\nversion = '1'\n[terms.t.languages.version]\nname = 'a'\nurl = 'https://b'",
            "language code",
        ),
        ("[terms.t]\nversion = '1'\n[terms.t.languages.en]\nname = 'a'\nurl = 'javascript:b'", "https://"),
        ("log.level = 'warning'", "log.level: 'warning' is not a level; write error, warn, info"),
        ("log.level = 'none'", "log.level"),
        ("log.level = 'inof'", "log.level"),
        ("log.level = ''", "log.level"),
        ("log.level = 'info,bindery::remote'", "log.level"),
        ("http.workers = 513", "http.workers: 513 threads are too many; 512 is the most"),
        ("mail.smtp.host = 'smtp://mail.example.org'", "mail.smtp.host"),
        ("mail.smtp.host = 'mail.example.org:587'", "a key of its own, mail.smtp.port"),
        ("mail.smtp.host = ' mail.example.org'", "mail.smtp.host"),
        ("mail.smtp.host = ''", "mail.smtp.host"),
        ("http.listen = []", "http.listen"),
        ("http.listen = ['localhost']", "http.listen"),
        ("http.listen = ['unix:http.sock']", "http.listen"),
        ("http.listen = ['/run/bindery/http.sock']", "http.listen"),
        ("http.metrics_listen = ['unix:/run/bindery/http.sock']", "http.metrics_listen"),
        ("http.tls.listen = ['127.0.0.1:0']", "http.tls.listen"),
        ("http.tls.key_file = '/etc/bindery/privkey.pem'", "http.tls"),
        ("http.trusted_proxies = ['x']", "trusted_proxies"),
        ("lookup.max_addresses = 0", "lookup.max_addresses"),
        ("lookup.max_addresses = 10001", "lookup.max_addresses"),
        ("lookup.max_addresses = 'many'", "max_addresses"),
        ("mail.default_language = 'xx'", "default_language"),
        ("mail.transport = 'pigeon'", "transport"),
        ("mail.smtp = { username = 'u', password = 'a', password_file = 'b' }", "mail.smtp"),
        ("mail.smtp = { username = 'u' }", "username and a password"),
        ("mail.smtp = { timeout_seconds = 0 }", "timeout_seconds"),
        ("mail.smtp = { max_connections = 0 }", "max_connections"),
        ("homeservers.allow = ['not a name']", "homeservers.allow"),
        ("validation.next_link_prefixes = ['https://app.example.org']", "validation.next_link_prefixes"),
        ("validation.next_link_prefixes = ['app:']", "validation.next_link_prefixes"),
        ("limits.register_per_ip = { burst = 0, per_hour = 1 }", "limits.register_per_ip"),
        ("limits.register_per_ip = { burst = 1, per_hour = 0 }", "limits.register_per_ip"),
        ("mail.default_brand = '../x'", "mail.default_brand"),
        (
            "[terms.tos]\nversion = ''\n[terms.tos.languages.en]\nname = 'a'\nurl = 'https://b'",
            "terms.tos.version",
        ),
        ("[terms.tos]\nversion = '1'\nlanguages = {}", "terms.tos.languages"),
        ("operator.contact = 'nobody'", "operator.contact"),
        ("operator.security_contact = 'security@example.org'", "must begin with mailto: or https://"),
        ("operator.security_contact = \"mailto:a@b.example\\nCanonical: x\"", "operator.security_contact"),
        ("operator.authority_url = 'javascript:alert(1)'", "operator.authority_url"),
        ("operator.authority_url = 'https:///nowhere'", "operator.authority_url"),
        (
            "operator.imprint_url = 'javascript:alert(1)'",
            "operator.imprint_url: 'javascript:alert(1)' must begin",
        ),
        ("operator.imprint_url = 'example.org/imprint'", "operator.imprint_url"),
        ("operator.imprint_url = 'https://'", "operator.imprint_url"),
        ("operator.imprint_url = 'https://user@example.org/'", "operator.imprint_url"),
        ("operator.imprint_url = 'https://example.org/a b'", "operator.imprint_url"),
        ("operator.imprint_url = ['https://example.org']", "operator.imprint_url"),
        ("operator.name = \"Society\\r\\nBcc: victim@c.test\"", "operator.name"),
        ("operator.name = ' '", "operator.name"),
        ("operator.data_protection_officer = \"A\\nB\"", "operator.data_protection_officer"),
        ("operator.data_protection_officer = ' '", "operator.data_protection_officer"),
        ("operator.eu_representative = \"A\\u2028B\"", "operator.eu_representative"),
        ("operator.eu_representative = \"\\u0000\"", "operator.eu_representative"),
        ("operator.processors = [{ name = '', purpose = 'b', url = 'https://c' }]", "a name and a purpose"),
        (
            "operator.processors = [{ name = 'a', purpose = 'b', url = 'https://c', country = ' ' }]",
            "operator.processors: the country \" \" of 'a'",
        ),
        (
            "operator.processors = [{ name = 'a', purpose = 'b', url = 'https://c', country = \"d\\ne\" }]",
            "operator.processors: the country",
        ),
        (
            "operator.processors = [{ name = 'a', purpose = 'b', url = 'https://c', country = ['SE'] }]",
            "operator.processors",
        ),
        (
            "operator.processors = [{ name = 'a', purpose = 'b', url = 'https://c', land = 'SE' }]",
            "operator.processors",
        ),
        (
            "operator.processors = [{ name = 'a', purpose = 'b', url = 'javascript:c' }]",
            "operator.processors",
        ),
        ("operator.processors = [{ name = 'a', purpose = 'b' }]", "operator.processors"),
        ("server_name = ", "line 1"),
    ] {
        let error = load_text(text, &[]).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let missing = load(Some("/nowhere/bindery.toml".as_ref()), std::iter::empty()).expect_err("no such file");
    assert!(missing.to_string().contains("/nowhere/bindery.toml"), "{missing}");
}

#[test]
fn levels_and_filters_are_taken() {
    for level in ["error", "INFO", "off", "info,bindery::remote=debug", "bindery=trace"] {
        load_text(&format!("log.level = '{level}'"), &[]).unwrap_or_else(|error| panic!("{level}: {error}"));
    }
}

#[test]
fn what_is_wrong_is_named_and_not_shown() {
    for (text, named) in [
        (
            "mail.smtp.username = 'u'\nmail.smtp.password = 8213",
            "mail.smtp.password: a text is needed here, not a number",
        ),
        ("mail.smtp.password = \"8213\"8213\"", "line 1"),
        ("mail.smtp.password = 8213-x", "line 1"),
        ("mail.smtp.password = “8213”", "line 1"),
        ("mail.smtp.password = '''\n8213 = 8213", "line "),
        ("[mail.smtp]\npassword = [ '8213' ]", "mail.smtp.password: a text is needed here, not a list"),
        (
            "lookup.max_addresses = ', expected 8213'",
            "max_addresses: a whole number is needed here, not a text",
        ),
        (
            "mail.transport = '8213'",
            "mail.transport: this is none of the possible values; write one of \"directory\", \"smtp\"",
        ),
        ("http.trusted_proxies = ['10.0.0.0/8', '8213']", "http.trusted_proxies[1]: the value is wrong"),
        (
            "operator.processors = [{ name = 'a', purpose = '8213' }]",
            "operator.processors[0]: the key 'url' is missing",
        ),
    ] {
        let error = load_text(text, &[]).expect_err(text);
        assert!(!error.contains("8213"), "{error}");
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn a_homeserver_behind_the_proxys_address_is_noticed() {
    let is_open = |allowed: &str, proxy: &str| {
        let mut config = Config::default();
        config.delegation.allowed_networks = vec![allowed.parse().expect("a network")];
        config.http.trusted_proxies = vec![proxy.parse().expect("a network")];
        config.delegates_to_a_proxy()
    };
    assert!(is_open("127.0.0.1/32", "127.0.0.0/8") && is_open("0.0.0.0/0", "192.0.2.1/32"));
    assert!(!is_open("192.0.2.1/32", "127.0.0.0/8") && !is_open("::/0", "127.0.0.0/8"));
    assert!(!Config::default().delegates_to_a_proxy(), "it is off");
}

#[test]
fn the_recipes_for_gateways_are_read_and_their_misspellings_named() {
    let text = include_str!("../../docs/sms.md");
    let blocks: Vec<&str> =
        text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 5);
    for block in &blocks {
        load_text(block, &[]).unwrap_or_else(|problem| panic!("{problem}: {block}"));
    }
    let config = load_text(blocks[0], &[("BINDERY_SMS__ORIGINATORS__353", "Example IE")]).expect("good");
    assert_eq!(config.sms.originators["353"], "Example IE");
    assert_eq!(config.sms.http.body["To"], "{to}");
    for (right, wrong, hint) in [
        ("success_status", "success_statuses", "'sms.http.success_status'"),
        ("countries", "contries", "'sms.countries'"),
        ("format = \"form\"", "format = \"xml\"", "sms.http.format"),
    ] {
        let problem = load_text(&blocks[0].replace(right, wrong), &[]).expect_err("it is misspelt");
        assert!(problem.contains(hint), "{problem}");
    }
}

#[test]
fn the_sizes_in_operating_md_are_the_defaults_and_load() {
    let text = include_str!("../../docs/operating.md");
    let (_, table) = text.split_once("## A server for 50 people").expect("the section");
    let rows =
        table.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with("| `"));
    let defaults = toml::Value::try_from(Config::default()).expect("a table");
    let mut all = String::new();
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`'])).collect();
        let [key, default, value, _] = cells[..] else { panic!("four cells: {row}") };
        let actual = key.split('.').try_fold(&defaults, |part, name| part.get(name)).expect("a default");
        let shown: toml::Table = format!("value = {default}").parse().expect("TOML");
        assert_eq!(actual, &shown["value"], "{key}");
        all += &format!("{key} = {value}\n");
    }
    let config = load_text(&all, &[]).expect("the values for 100,000 users load");
    assert_eq!(config.lookup.homeserver_budgets[0].homeserver, "example.org");
    // The sums in the last column.
    let (max, daily) = (config.lookup.max_addresses as u64, config.lookup.daily_budget.get());
    let shared = format!(
        "share {} lookups at once and {} a day: {} address books",
        thousands(3 * max),
        thousands(10 * daily),
        10 * daily / 300
    );
    assert!(text.contains(&shared), "{shared}");
    let hours =
        |rate: bindery::domain::bucket::Rate| (100_000 - rate.burst.get()).div_ceil(rate.per_hour.get());
    let defaults = Config::default().limits;
    for (new, old, words) in [
        (config.limits.register_per_homeserver, defaults.register_per_homeserver, "register"),
        (
            config.limits.request_token_per_homeserver,
            defaults.request_token_per_homeserver,
            "have a validation mail",
        ),
    ] {
        let said =
            format!("all users can {words} within {} hours, by default within {}", hours(new), hours(old));
        assert!(text.contains(&said), "{said}");
    }
}

fn thousands(number: u64) -> String {
    format!("{},{:03}", number / 1000, number % 1000)
}
