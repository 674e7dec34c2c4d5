//! How a mail gets to the relay, and what the client hears when it does not.

use bindery::config::{Config, Password, SmtpSecurity};
use futures_util::future::join_all;

use super::{request, sid};
use crate::support::{
    Server, User, accept_terms, at_least_one,
    homeserver::{Homeserver, unused_address},
    smtp::{Mood, Relay, Stage, server_behind},
    tls::Authority,
};

const EVERY_SECURITY: [SmtpSecurity; 3] = [SmtpSecurity::None, SmtpSecurity::Starttls, SmtpSecurity::Tls];

/// The login that a relay with `login: Some(("bindery", "pass"))` demands.
fn with_login(config: &mut Config) {
    config.mail.smtp.username = Some("bindery".to_owned());
    config.mail.smtp.password = Some(Password("pass".to_owned()));
}

#[tokio::test]
async fn a_mail_arrives_by_every_kind_of_security() {
    for security in EVERY_SECURITY {
        for host in ["127.0.0.1", "localhost"] {
            let relay = Relay::start(security);
            let server = server_behind(&relay, |config| config.mail.smtp.host = host.to_owned()).await;
            let alice = server.user("alice").await;
            request(&server, &alice, "alice@example.org", 1).await.ok();
            let mails = relay.mails();
            assert_eq!(mails.len(), 1);
            assert_eq!(mails[0].from, "noreply@id.test");
            assert_eq!(mails[0].to, ["alice@example.org"]);
            assert_eq!(mails[0].encrypted, security != SmtpSecurity::None, "{security:?}");
            if mails[0].encrypted {
                let clear = relay.clear_commands();
                let harmless = |command: &String| command.starts_with("EHLO ") || command == "STARTTLS";
                assert!(clear.iter().all(harmless), "{clear:?}");
            }
        }
    }
}

#[tokio::test]
async fn the_relay_must_have_a_certificate_of_a_trusted_authority() {
    let other = Authority::new();
    for security in [SmtpSecurity::Starttls, SmtpSecurity::Tls] {
        for trusted in [None, Some(other.file())] {
            let relay = Relay::start(security);
            let server = server_behind(&relay, |config| config.mail.smtp.extra_ca_file = trusted).await;
            is_refused_with_nothing_said(&server, &relay).await;
        }
    }
}

#[tokio::test]
async fn the_relay_must_have_a_certificate_for_its_name() {
    for security in [SmtpSecurity::Starttls, SmtpSecurity::Tls] {
        let relay = Relay::start_with(security, |offers| offers.names = &["relay.test"]);
        let server = server_behind(&relay, |_| {}).await;
        is_refused_with_nothing_said(&server, &relay).await;
    }
}

#[tokio::test]
async fn a_relay_that_does_not_offer_starttls_gets_nothing() {
    let relay = Relay::start_with(SmtpSecurity::None, |offers| offers.login = Some(("bindery", "pass")));
    let setup = |config: &mut Config| {
        config.mail.smtp.security = SmtpSecurity::Starttls;
        with_login(config);
    };
    let server = server_behind(&relay, setup).await;
    is_refused_with_nothing_said(&server, &relay).await;
}

/// The client hears of the failure, and the relay has heard neither a password nor an address.
async fn is_refused_with_nothing_said(server: &Server, relay: &Relay) {
    let alice = server.user("alice").await;
    request(server, &alice, "alice@example.org", 1).await.refused(400, "M_EMAIL_SEND_ERROR");
    assert!(relay.mails().is_empty());
    assert_eq!(relay.seen(|seen| seen.connections), 1, "it is not tried again in another way");
    let commands = relay.seen(|seen| seen.commands.clone());
    let harmless = |command: &str| command.starts_with("EHLO ") || ["STARTTLS", "QUIT"].contains(&command);
    assert!(commands.iter().all(|(_, command)| harmless(command)), "{commands:?}");
}

#[tokio::test]
async fn the_server_logs_in_to_the_relay() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let file = dir.path().join("password");
    std::fs::write(&file, "pass word\nthis is a comment\n").expect("a file");
    for security in EVERY_SECURITY {
        for mechanisms in ["PLAIN LOGIN", "PLAIN", "LOGIN"] {
            for from_file in [false, true] {
                let relay = Relay::start_with(security, |offers| {
                    offers.login = Some(("bindery", "pass word"));
                    offers.mechanisms = mechanisms;
                });
                let setup = |config: &mut Config| {
                    config.mail.smtp.username = Some("bindery".to_owned());
                    config.mail.smtp.password = (!from_file).then(|| Password("pass word".to_owned()));
                    config.mail.smtp.password_file = from_file.then(|| file.clone());
                };
                let server = server_behind(&relay, setup).await;
                let alice = server.user("alice").await;
                request(&server, &alice, "alice@example.org", 1).await.ok();
                assert_eq!(relay.mails()[0].user.as_deref(), Some("bindery"), "{security:?} {mechanisms}");
            }
        }
    }
}

#[tokio::test]
async fn the_server_logs_in_by_login_if_the_relay_refuses_plain() {
    let relay = Relay::start_with(SmtpSecurity::Tls, |offers| {
        offers.login = Some(("bindery", "pass"));
        offers.refuses_plain = true;
    });
    let server = server_behind(&relay, with_login).await;
    let alice = server.user("alice").await;
    request(&server, &alice, "alice@example.org", 1).await.ok();
    assert_eq!(relay.mails()[0].user.as_deref(), Some("bindery"));
    let tried = relay.seen(|seen| seen.commands.iter().filter(|(_, one)| one.starts_with("AUTH ")).count());
    assert_eq!(tried, 2);
}

#[tokio::test]
async fn a_relay_with_minimal_replies_takes_mails() {
    for security in EVERY_SECURITY {
        let relay = Relay::start_with(security, |offers| {
            offers.login = Some(("bindery", "pass"));
            offers.is_terse = true;
        });
        let server = server_behind(&relay, with_login).await;
        let alice = server.user("alice").await;
        for address in ["alice@example.org", "jürgen@example.org"] {
            request(&server, &alice, address, 1).await.ok();
        }
        let mails = relay.mails();
        assert_eq!(mails[1].to, ["jürgen@example.org"]);
        assert!(mails.iter().all(|mail| mail.user.as_deref() == Some("bindery")), "{security:?}");
    }
}

#[tokio::test]
async fn a_relay_may_show_the_self_signed_certificate_in_the_file() {
    for security in [SmtpSecurity::Starttls, SmtpSecurity::Tls] {
        // There is one relay, so the names do not matter.
        let relay = Relay::start_under(Authority::self_signed(&["mail.test"]), security, |_| {});
        let server = server_behind(&relay, |_| {}).await;
        let alice = server.user("alice").await;
        request(&server, &alice, "alice@example.org", 1).await.ok();
        assert!(relay.mails()[0].encrypted);
        let other = Authority::self_signed(&["127.0.0.1"]);
        let trusted = Some(other.file());
        let server = server_behind(&relay, |config| config.mail.smtp.extra_ca_file = trusted).await;
        let alice = server.user("alice").await;
        request(&server, &alice, "alice@example.org", 1).await.refused(400, "M_EMAIL_SEND_ERROR");
        assert_eq!(relay.mails().len(), 1);
    }
}

#[tokio::test]
async fn a_wrong_password_or_none_sends_nothing() {
    for password in [None, Some("wrong")] {
        for mechanisms in ["PLAIN", "LOGIN", "CRAM-MD5"] {
            let relay = Relay::start_with(SmtpSecurity::Tls, |offers| {
                offers.login = Some(("bindery", "right"));
                offers.mechanisms = mechanisms;
            });
            let setup = |config: &mut Config| {
                config.mail.smtp.username = password.map(|_| "bindery".to_owned());
                config.mail.smtp.password = password.map(|password| Password(password.to_owned()));
            };
            let server = server_behind(&relay, setup).await;
            let alice = server.user("alice").await;
            request(&server, &alice, "alice@example.org", 1).await.refused(400, "M_EMAIL_SEND_ERROR");
            assert!(relay.mails().is_empty());
        }
    }
}

#[tokio::test]
async fn a_relay_that_is_not_there_is_a_send_error() {
    let relay = Relay::start(SmtpSecurity::None);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = nobody.local_addr().expect("an address").port();
    drop(nobody);
    let server = server_behind(&relay, |config| config.mail.smtp.port = port).await;
    let alice = server.user("alice").await;
    request(&server, &alice, "alice@example.org", 1).await.refused(400, "M_EMAIL_SEND_ERROR");
}

/// Every way in which a relay can fail to take a mail, and how long that may take.
async fn an_attempt_counts_only_once_accepted(moods: &[Mood], timeout_seconds: u32, attempt: u64) {
    let relay = Relay::start(SmtpSecurity::None);
    let setup = |config: &mut Config| config.mail.smtp.timeout_seconds = at_least_one(timeout_seconds);
    let server = server_behind(&relay, setup).await;
    let alice = server.user("alice").await;
    for (number, mood) in moods.iter().enumerate() {
        // The second address of each meets a connection that was used before.
        for address in [format!("a{number}@example.org"), format!("b{number}@example.org")] {
            let before = relay.mails().len();
            relay.set(*mood);
            request(&server, &alice, &address, attempt).await.refused(400, "M_EMAIL_SEND_ERROR");
            request(&server, &alice, &address, attempt).await.refused(400, "M_EMAIL_SEND_ERROR");
            assert_eq!(relay.mails().len(), before, "{mood:?}");
            relay.set(Mood::Accept);
            let first = request(&server, &alice, &address, attempt).await.ok();
            assert_eq!(relay.mails().len(), before + 1, "{mood:?}: now it is sent");
            assert_eq!(relay.mails()[before].to, std::slice::from_ref(&address));
            let link = relay.mails()[before].mail().link();
            assert!(link.starts_with(&format!("/c/{}", sid(&first))), "{link}");
            let again = request(&server, &alice, &address, attempt).await.ok();
            assert_eq!(sid(&first), sid(&again));
            assert_eq!(relay.mails().len(), before + 1, "{mood:?}: and now it counts");
        }
    }
}

#[tokio::test]
async fn an_attempt_that_was_refused_may_be_repeated() {
    let moods = [
        Mood::Refuse(Stage::Recipient, 550),
        Mood::Refuse(Stage::Recipient, 451),
        Mood::Refuse(Stage::Greeting, 421),
    ];
    an_attempt_counts_only_once_accepted(&moods, 20, 1).await;
}

#[tokio::test]
async fn an_attempt_that_was_cut_off_may_be_repeated() {
    let moods = [Mood::Drop(Stage::Greeting), Mood::Drop(Stage::Recipient)];
    an_attempt_counts_only_once_accepted(&moods, 20, 1).await;
}

#[tokio::test]
async fn attempt_zero_counts_only_once_accepted() {
    an_attempt_counts_only_once_accepted(&[Mood::Refuse(Stage::Recipient, 550)], 20, 0).await;
}

#[tokio::test]
async fn an_attempt_that_was_not_greeted_may_be_repeated() {
    an_attempt_counts_only_once_accepted(&[Mood::Silent(Stage::Greeting)], 1, 1).await;
}

#[tokio::test]
async fn an_attempt_whose_recipient_got_no_answer_may_be_repeated() {
    an_attempt_counts_only_once_accepted(&[Mood::Silent(Stage::Recipient)], 1, 1).await;
}

#[tokio::test]
async fn a_caller_does_not_hear_what_the_relay_says_about_the_message() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |config| config.mail.smtp.timeout_seconds = at_least_one(1)).await;
    let alice = server.user("alice").await;
    let moods = [
        Mood::Refuse(Stage::Message, 554),
        Mood::Refuse(Stage::Message, 452),
        Mood::Drop(Stage::Message),
        Mood::Silent(Stage::Message),
    ];
    for (number, mood) in moods.into_iter().enumerate() {
        let address = format!("{number}@example.org");
        relay.set(mood);
        request(&server, &alice, &address, 1).await.ok();
        relay.set(Mood::Accept);
        // The attempt counts, as for an address that opted out.
        request(&server, &alice, &address, 1).await.ok();
        assert_eq!(relay.mails().len(), number, "{mood:?}");
        request(&server, &alice, &address, 2).await.ok();
        assert_eq!(relay.mails().len(), number + 1, "{mood:?}");
    }
}

#[tokio::test]
async fn a_late_answer_is_not_taken_for_the_answer_to_something_else() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |config| config.mail.smtp.timeout_seconds = at_least_one(1)).await;
    let alice = server.user("alice").await;
    relay.set(Mood::Hold);
    request(&server, &alice, "alice@example.org", 1).await.ok();
    // Now the relay takes that mail after all, and refuses those that come from here on.
    relay.set(Mood::Accept);
    relay.until(|seen| seen.mails.len() == 1).await;
    relay.set(Mood::Refuse(Stage::Recipient, 554));
    request(&server, &alice, "alice@example.org", 2).await.refused(400, "M_EMAIL_SEND_ERROR");
}

#[tokio::test]
async fn mails_share_a_connection() {
    for security in EVERY_SECURITY {
        let relay = Relay::start(security);
        let server = server_behind(&relay, |_| {}).await;
        let alice = server.user("alice").await;
        for number in 0..5 {
            request(&server, &alice, &format!("{number}@example.org"), 1).await.ok();
        }
        assert_eq!(relay.mails().len(), 5);
        assert_eq!(relay.seen(|seen| seen.connections), 1, "{security:?}");
    }
}

#[tokio::test]
async fn a_connection_that_the_relay_has_closed_is_replaced() {
    let relay = Relay::start(SmtpSecurity::Tls);
    let server = server_behind(&relay, |_| {}).await;
    let alice = server.user("alice").await;
    request(&server, &alice, "a@example.org", 1).await.ok();
    relay.set(Mood::Drop(Stage::Recipient));
    request(&server, &alice, "b@example.org", 1).await.refused(400, "M_EMAIL_SEND_ERROR");
    relay.until(|seen| seen.open == 0).await;
    relay.set(Mood::Accept);
    request(&server, &alice, "b@example.org", 1).await.ok();
    assert_eq!(relay.mails().len(), 2);
    assert_eq!(relay.seen(|seen| seen.connections), 2);
}

#[tokio::test]
async fn no_more_connections_are_opened_than_the_operator_allows() {
    let relay = Relay::start(SmtpSecurity::None);
    // One more than the accounts of one homeserver may use.
    let server = server_behind(&relay, |config| config.mail.smtp.max_connections = at_least_one(3)).await;
    let mut accounts = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        accounts.push(server.user(name).await);
    }
    relay.set(Mood::Hold);
    let addresses = ["a@b.test", "c@d.test", "e@f.test", "g@h.test", "i@j.test"];
    let requests =
        accounts.iter().zip(addresses).map(|(account, address)| request(&server, account, address, 1));
    let released = async {
        relay.until(|seen| seen.held == 2).await;
        relay.set(Mood::Accept);
    };
    let (replies, ()) = tokio::join!(join_all(requests), released);
    for reply in replies {
        reply.ok();
    }
    assert_eq!(relay.mails().len(), 5);
    assert_eq!(relay.seen(|seen| seen.connections), 2);
}

#[tokio::test]
async fn a_domain_about_which_the_relay_is_slow_holds_up_no_mail_to_others() {
    let relay = Relay::start(SmtpSecurity::None);
    let setup = |config: &mut Config| config.mail.smtp.timeout_seconds = at_least_one(5);
    let mut server = server_behind(&relay, setup).await;
    server.leaves_jobs();
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    relay.set(Mood::SilentTo("slow.test"));
    // Queued mails and requests together.
    for number in 0..3 {
        server.invite(&alice, &format!("{number}@invited.slow.test"), "!room:hs.test").await;
    }
    let addresses = ["a@a.slow.test", "b@b.slow.test", "c@slow.test", "d@slow.test", "e@slow.test"];
    let askers = [&alice, &bob].into_iter().cycle();
    let slow = addresses.iter().zip(askers).map(|(address, asker)| request(&server, asker, address, 1));
    let slow = join_all(slow);
    let quick = async {
        let are_at_it = |seen: &crate::support::smtp::Seen| {
            let rcpt = seen.commands.iter().filter(|(_, command)| command.starts_with("RCPT"));
            rcpt.count() == 3
        };
        relay.until(are_at_it).await;
        for number in 0..5 {
            request(&server, &carol, &format!("{number}@example.org"), 1).await.ok();
        }
        std::time::Instant::now()
    };
    let (slow, quick_ended) = tokio::join!(slow, quick);
    assert!(quick_ended.elapsed() > std::time::Duration::from_secs(1), "they did not wait for each other");
    for reply in slow {
        reply.refused(400, "M_EMAIL_SEND_ERROR");
    }
}

#[tokio::test]
async fn an_asker_whose_recipients_are_slow_delays_no_other_asker() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |_| {}).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    relay.set(Mood::SilentTo("slow"));
    let addresses: Vec<_> = (0..6).map(|number| format!("a@slow{number}.test")).collect();
    let slow = join_all(addresses.iter().map(|address| request(&server, &alice, address, 1)));
    let other = async {
        relay.until(|seen| seen.commands.iter().any(|(_, command)| command.contains("RCPT"))).await;
        request(&server, &bob, "bob@example.org", 1).await.ok();
    };
    tokio::select! {
        _ = slow => panic!("the other asker waited"),
        () = other => {}
    }
}

#[tokio::test]
async fn mails_that_wait_for_the_share_of_their_homeserver_keep_no_share_of_a_domain_from_others() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |_| {}).await;
    let authority = server.homeserver.authority.clone();
    let address = unused_address();
    let names = [&*address.to_string()];
    let other = Homeserver::start_at(authority, (address, 0).into(), &names, |address| address.to_string());
    let id = format!("@alice:{}", other.name());
    let reply = server.register_with(other.name(), &other.openid_token(&id)).await.ok();
    let alice = User { id, token: reply["token"].as_str().expect("a token").to_owned() };
    accept_terms(&server.base, &alice.token).await;
    let mut accounts = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        accounts.push(server.user(name).await);
    }
    relay.set(Mood::SilentTo("slow"));
    let slow = ["a@slow1.test", "b@slow1.test", "c@slow2.test"];
    let waiting = ["d@example.org", "e@example.org"];
    let send = |at: usize, address| request(&server, &accounts[at], address, 1);
    let slow = join_all(slow.into_iter().enumerate().map(|(at, address)| send(at, address)));
    let waiting = join_all(waiting.into_iter().enumerate().map(|(at, address)| send(3 + at, address)));
    let other = async {
        let are_slow = |(_, command): &&(bool, String)| command.contains("RCPT") && command.contains("slow");
        relay.until(|seen| seen.commands.iter().filter(are_slow).count() == 3).await;
        let mails = async {
            for number in 0..5 {
                request(&server, &alice, &format!("alice{number}@example.org"), 1).await.ok();
            }
        };
        tokio::select! {
            _ = waiting => panic!("their homeserver has no connection left"),
            () = mails => {}
        }
    };
    tokio::select! {
        _ = slow => panic!("the other homeserver waited"),
        () = other => {}
    }
}
